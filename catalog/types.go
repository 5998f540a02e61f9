package catalog

import "time"

// State of a tenant; design: provisioning → active ⇄ suspended, moving,
// deleting → deleted.
type State string

// The states.
const (
	Provisioning State = "provisioning"
	Active       State = "active"
	Suspended    State = "suspended"
	Moving       State = "moving"
	Deleting     State = "deleting"
	Deleted      State = "deleted"
)

// Tenant is a tenant's row, without its secret.
type Tenant struct {
	ID            TenantID          `json:"id"`
	Slug          string            `json:"slug"`
	Name          string            `json:"name"`
	Email         string            `json:"email"`
	Plan          string            `json:"plan"`
	Labels        map[string]string `json:"labels"`
	Region        string            `json:"region"`
	State         State             `json:"state"`
	Server        string            `json:"server"`
	Database      string            `json:"database"`
	Role          string            `json:"role"`
	Epoch         int64             `json:"epoch"`
	SchemaVersion int64             `json:"schema_version"`
	CreatedAt     time.Time         `json:"created_at"`
}

// TenantSpec is what a new tenant is made from. Only Slug is required.
type TenantSpec struct {
	Slug, Name, Email, Plan, Region, Server string
	Labels                                  map[string]string
}

// TenantConfig is a tenant's policy, with the names and defaults of the
// product's first description.
type TenantConfig struct {
	AllowedModels              []string `json:"allowed_models"`
	SystemPromptOverride       string   `json:"system_prompt_override"`
	MonthlyTokenLimit          int64    `json:"monthly_token_limit"`
	ConcurrentRequestLimit     int      `json:"concurrent_request_limit"`
	PredictionLogRetentionDays int      `json:"prediction_log_retention_days"`
	PIIDetectionEnabled        bool     `json:"pii_detection_enabled"`
	PIIMode                    string   `json:"pii_mode"`
	AuditLogEnabled            bool     `json:"audit_log_enabled"`
}

// Allows reports whether the tenant may use the model: an exact name, or a
// prefix that ends in an asterisk.
func (c TenantConfig) Allows(model string) bool {
	for _, m := range c.AllowedModels {
		if m == model {
			return true
		}
		if n := len(m) - 1; n >= 0 && m[n] == '*' && len(model) >= n && model[:n] == m[:n] {
			return true
		}
	}
	return false
}

// Server is a Postgres server that holds tenant databases, without its secret.
type Server struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	Region         string    `json:"region"`
	Host           string    `json:"host"`
	Port           int       `json:"port"`
	SSLMode        string    `json:"ssl_mode"`
	AdminUser      string    `json:"admin_user"`
	Version        int       `json:"version"` // server_version_num
	MaxConnections int       `json:"max_connections"`
	Budget         int       `json:"budget"`
	Reserve        int       `json:"reserve"`
	State          string    `json:"state"`
	Tenants        int       `json:"tenants"`
	CreatedAt      time.Time `json:"created_at"`
}

// ServerSpec is what `server add` writes. Password and SSLRootCA (PEM text, not
// a path) are needed to connect; only the password is a secret.
type ServerSpec struct {
	Name, Region, Host, SSLMode, SSLRootCA, AdminUser, Password string
	Port, Version, MaxConnections, Budget, Reserve              int
}

// Key is an API key's row. Its secret is shown once, by CreateKey, and is
// nowhere afterwards.
type Key struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// KeySpec is what a new key is made from: at least one scope.
type KeySpec struct {
	Name      string
	Scopes    []string
	ExpiresAt *time.Time
}

// Scopes of the tenants' API. ScopeAll holds every other.
const (
	ScopeAll        = "all"
	ScopeInference  = "inference"
	ScopeRead       = "read"
	ScopeErase      = "erase"
	ScopeModels     = "models"
	ScopeFiles      = "files"
	ScopeFineTuning = "fine_tuning"
	ScopeKeys       = "keys"
	ScopeExport     = "export"
)

// Engine is an inference engine of the platform, without its secret.
type Engine struct {
	Name      string        `json:"name"`
	Kind      string        `json:"kind"` // builtin or openai
	BaseURL   string        `json:"base_url,omitempty"`
	Timeout   time.Duration `json:"-"`
	HasKey    bool          `json:"has_key"`
	CreatedAt time.Time     `json:"created_at"`
}

// EngineSpec is what `engine add` writes; Key is sealed before it is stored.
type EngineSpec struct {
	Name, Kind, BaseURL, Key string
	Timeout                  time.Duration
}

// Model is a platform model: a name that tenants use, served by an engine under
// its upstream name. Prices are for a million tokens, in the bill's currency.
type Model struct {
	Name        string    `json:"name"`
	Engine      string    `json:"engine"`
	Upstream    string    `json:"upstream"`
	Kind        string    `json:"kind"` // chat or embedding
	InputPrice  string    `json:"input_price"`
	OutputPrice string    `json:"output_price"`
	CreatedAt   time.Time `json:"created_at"`
}

// Node is a running process that serves requests.
type Node struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Seen        int64     `json:"seen"`
	StartedAt   time.Time `json:"started_at"`
	HeartbeatAt time.Time `json:"heartbeat_at"`
}
