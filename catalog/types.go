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
	ID             TenantID          `json:"id"`
	Slug           string            `json:"slug"`
	Name           string            `json:"name"`
	Email          string            `json:"email"`
	Plan           string            `json:"plan"`
	Labels         map[string]string `json:"labels"`
	Region         string            `json:"region"`
	State          State             `json:"state"`
	Server         string            `json:"server"`
	Database       string            `json:"database"`
	Role           string            `json:"role"`
	Epoch          int64             `json:"epoch"`
	SchemaVersion  int64             `json:"schema_version"`
	ProductVersion int64             `json:"product_version"`
	CreatedAt      time.Time         `json:"created_at"`
}

// TenantSpec is what a new tenant is made from. Only Slug is required.
type TenantSpec struct {
	Slug, Name, Email, Plan, Region, Server string

	Labels map[string]string
	Pin    map[string]string // labels that its server must have
	Actor  string            // who asked

	// RequestKey is the Idempotency-Key of the request, and RequestHash of what:
	// the same request again, within a day, is answered with the tenant it made.
	RequestKey  string
	RequestHash []byte
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
	PIIAllow                   []string `json:"pii_allow"` // words that are never personal data
	PIIDeny                    []string `json:"pii_deny"`  // words that always are
	AuditLogEnabled            bool     `json:"audit_log_enabled"`
	FineTuningRunningLimit     int      `json:"fine_tuning_running_limit"` // jobs at a time
	FineTuningQueueLimit       int      `json:"fine_tuning_queue_limit"`   // jobs that wait or run
	FileStorageLimit           int64    `json:"file_storage_limit"`        // bytes of all files
}

// Server is a Postgres server that holds tenant databases, without its secret.
type Server struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Region         string `json:"region"`
	Host           string `json:"host"`
	Port           int    `json:"port"`
	SSLMode        string `json:"ssl_mode"`
	AdminUser      string `json:"admin_user"`
	Version        int    `json:"version"` // server_version_num
	MaxConnections int    `json:"max_connections"`
	Budget         int    `json:"budget"`
	Reserve        int    `json:"reserve"`
	State          string `json:"state"` // ServerActive, ServerDraining or ServerDown

	// What it takes.
	Labels       map[string]string `json:"labels"`
	Plans        []string          `json:"plans"` // these only; empty: any that no server lists
	Ready        int               `json:"ready"` // ready databases to keep
	MaxDatabases int               `json:"max_databases"`
	MaxRecovery  int               `json:"max_recovery_seconds" db:"max_recovery_s"`
	DiskBytes    int64             `json:"disk_bytes"` // for data; 0: not known

	// What was measured last.
	UsedBytes      int64      `json:"used_bytes"`
	Files          int64      `json:"files"`
	FilesADatabase int        `json:"files_a_database"`
	SyncMethod     string     `json:"sync_method"` // recovery_init_sync_method; off without fsync; empty: not known
	MeasuredAt     *time.Time `json:"measured_at"`

	// What it is fit for as one end of a replication, as it was found when it was last
	// looked at.
	WALLevel     string `json:"wal_level"`     // empty: not looked yet
	CanPublish   bool   `json:"can_publish"`   // its admin may make roles and slots of replication
	CanSubscribe bool   `json:"can_subscribe"` // and subscriptions

	// What follows from it.
	Tenants   int       `json:"tenants"`   // deleted ones left out
	ReadyNow  int       `json:"ready_now"` // ready databases that can be claimed
	Kept      int       `json:"kept"`      // databases that their tenants have left, until they are dropped
	Coming    int       `json:"coming"`    // tenants that a move is bringing
	Databases int       `json:"databases"` // of all four, in whatever state
	Recovery  int       `json:"recovery_seconds" db:"-"`
	Limit     int       `json:"limit" db:"-"` // of databases
	Room      int       `json:"room" db:"-"`  // databases that it would still take
	CreatedAt time.Time `json:"created_at"`
}

// States of a server. Tenants are served in each of them.
const (
	ServerActive   = "active"
	ServerDraining = "draining" // takes no new tenants
	ServerDown     = "down"     // the same, and work on whole databases leaves it out
)

// ServerSpec is what `server add` writes. Password and SSLRootCA (PEM text, not
// a path) are needed to connect; only the password is a secret. From Labels on,
// zero is the default for a new server, and leaves a known one as it is.
type ServerSpec struct {
	Name, Region, Host, SSLMode, SSLRootCA, AdminUser, Password string
	Port, Version, MaxConnections, Budget, Reserve              int

	Labels       map[string]string
	Plans        []string
	Ready        int
	MaxDatabases int
	MaxRecovery  int // seconds
	DiskBytes    int64
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

	// Its own, below the tenant's: see KeyLimits.
	AllowedModels          []string `json:"allowed_models"`
	MonthlyTokenLimit      *int64   `json:"monthly_token_limit"`
	ConcurrentRequestLimit *int     `json:"concurrent_request_limit"`
}

// KeySpec is what a new key is made from: at least one scope.
type KeySpec struct {
	Name      string
	Scopes    []string
	ExpiresAt *time.Time
	Actor     string // who makes it, as operator_audit is to say; empty: it doesn't

	// Its own, below the tenant's; nil: no other than the tenant's.
	AllowedModels          []string
	MonthlyTokenLimit      *int64
	ConcurrentRequestLimit *int

	// RequestKey is the Idempotency-Key of the request, and RequestHash of what:
	// the same request again, within a day, is answered with the key it made.
	RequestKey  string
	RequestHash []byte
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
	Name        string     `json:"name"`
	Engine      string     `json:"engine"`
	Upstream    string     `json:"upstream"`
	Fallbacks   []Fallback `json:"fallbacks"` // tried in this order when the engine fails
	Kind        string     `json:"kind"`      // chat or embedding
	InputPrice  string     `json:"input_price"`
	OutputPrice string     `json:"output_price"`

	// What bounds a request before it is sent, in tokens, beside its bytes of text.
	MaxOutputTokens int `json:"max_output_tokens"` // of an answer, at most
	TokenOverhead   int `json:"token_overhead"`    // of a request, whatever is in it
	MessageOverhead int `json:"message_overhead"`  // of each message
	PartTokens      int `json:"part_tokens"`       // of an image, a sound or a file; 0: these are refused

	Trainer   string    `json:"trainer"` // who fine-tunes it: builtin, openai or command:<name>; empty: nobody
	Aliases   []string  `json:"aliases"` // other names of it; read only
	CreatedAt time.Time `json:"created_at"`
}

// Fallback is another engine for a model, and the model's name there.
type Fallback struct {
	Engine   string `json:"engine"`
	Upstream string `json:"upstream"`
}

// Node is a running process that serves requests.
type Node struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Seen        int64     `json:"seen"`
	StartedAt   time.Time `json:"started_at"`
	HeartbeatAt time.Time `json:"heartbeat_at"`

	// The versions of Freehold's tenant schema that it serves; 0: it didn't say.
	SchemaMin int64 `json:"schema_min"`
	SchemaMax int64 `json:"schema_max"`
}
