package catalog

import (
	"encoding/json"
	"time"
)

// Stream is a stream of migrations of the tenants' databases.
type Stream string

// The streams. Each has versions of its own.
const (
	StreamFreehold Stream = "freehold" // schema freehold, embedded in binaries
	StreamProduct  Stream = "product"  // the operator's own tables
)

// States of a rollout. It is open, and the only one of its stream that is, until it
// is done or aborted.
const (
	RolloutRunning = "running"
	RolloutHalted  = "halted"  // nothing new is begun, until a person has it go on
	RolloutPartial = "partial" // every target was tried, and some failed
	RolloutDone    = "done"
	RolloutAborted = "aborted" // what was migrated stays so
)

// States of a rollout's target.
const (
	TargetWaiting = "waiting"
	TargetRunning = "running"
	TargetDone    = "done"
	TargetFailed  = "failed"
	TargetGone    = "gone" // suspended or deleted: migrated when it is resumed, or never
)

// Kinds of failures of a target.
const (
	FailLocked  = "locked"  // others held what it needed, at every try
	FailSQL     = "sql"     // the migration itself: it conflicts with what is there
	FailAway    = "away"    // the server, or the database, took no connection
	FailMissing = "missing" // there is no such database
	FailAhead   = "ahead"   // a newer binary has migrated it
	FailTime    = "timeout" // statement_timeout
	FailInvalid = "invalid" // it left an index that isn't valid
	FailOther   = "other"
)

// RolloutOptions are how a rollout goes on; all have been given their defaults.
type RolloutOptions struct {
	Parallel         int           `json:"parallel"` // databases at once, on each server
	Budget           string        `json:"budget"`   // failures that are borne: a number, or a per cent of the targets
	LockTimeout      time.Duration `json:"lock_timeout_ns"`
	StatementTimeout time.Duration `json:"statement_timeout_ns"` // 0: none
	Retries          int           `json:"retries"`              // of what others held, or was away
	Soak             time.Duration `json:"soak_ns"`              // between two waves
	// The gate between waves: no more than so many times the failures and the p99
	// that there were before. 0: no gate.
	GateFailures float64 `json:"gate_failures"`
	GateLatency  float64 `json:"gate_latency"`
}

// RolloutSpec is what a rollout is begun with.
type RolloutSpec struct {
	Stream   Stream
	Target   int64
	Actor    string
	Options  RolloutOptions
	Deadline time.Time // zero: none
	Files    []MigrationFile
	Waves    []WaveSpec
}

// WaveSpec is a wave and its targets.
type WaveSpec struct {
	Name    string
	Targets []TargetSpec
}

// TargetSpec is a tenant of a wave.
type TargetSpec struct {
	Tenant TenantID
	Server string // id
	From   int64
}

// MigrationFile is a migration as it was first rolled out.
type MigrationFile struct {
	Version int64
	Name    string // of the file
	Sum     []byte // sha-256
	Body    string // the product's alone
}

// Rollout is a rollout as the catalog has it.
type Rollout struct {
	ID          string         `json:"id"`
	Stream      Stream         `json:"stream"`
	Target      int64          `json:"target"`
	Actor       string         `json:"actor"`
	Options     RolloutOptions `json:"options"`
	State       string         `json:"state"`
	Wave        int            `json:"wave"`
	Reason      string         `json:"reason,omitempty"`
	Token       int64          `json:"-"`
	Worker      string         `json:"worker,omitempty"` // who leads
	LeaseUntil  *time.Time     `json:"lease_until,omitempty"`
	HeartbeatAt *time.Time     `json:"heartbeat_at,omitempty"`
	Deadline    *time.Time     `json:"deadline,omitempty"`
	CreatedAt   time.Time      `json:"created_at"`
	EndedAt     *time.Time     `json:"ended_at,omitempty"`
}

// Open reports whether it is neither done nor aborted.
func (r Rollout) Open() bool { return r.State != RolloutDone && r.State != RolloutAborted }

// RolloutWave is how far a wave is.
type RolloutWave struct {
	N          int             `json:"n"`
	Name       string          `json:"name"`
	Targets    int             `json:"targets" db:"-"`
	Done       int             `json:"done" db:"-"`
	Failed     int             `json:"failed" db:"-"`
	Running    int             `json:"running" db:"-"`
	BegunAt    *time.Time      `json:"begun_at,omitempty"`
	MigratedAt *time.Time      `json:"migrated_at,omitempty"`
	PassedAt   *time.Time      `json:"passed_at,omitempty"`
	Health     json.RawMessage `json:"health,omitempty"`
}

// TargetClaim is a target that a worker has.
type TargetClaim struct {
	Tenant   TenantID
	Slug     string
	Server   string // its name
	ServerID string
	Database string
	From     int64
	Attempts int   // this one counted
	Claim    int64 // its number
}

// TargetResult is how a claim ended.
type TargetResult struct {
	TargetClaim
	State   string // TargetDone, TargetFailed, or TargetWaiting for another try
	Version int64  // that the database has now; 0: not known, as it was
	Needs   int64  // of Freehold's stream: what tenants.schema_needs becomes; -1: as it was
	Took    time.Duration
	After   time.Duration // of another try
	Kind    string        // of the failure
	File    string        // that failed
	Error   string        // for people: no secrets, no rows
}

// Turn is what a worker of a rollout tells and asks for, in one transaction.
type Turn struct {
	Rollout string
	Taker   Taker
	Lead    int64          // the token, of who leads; 0: it doesn't
	Ended   []TargetResult // recorded where the claim is still theirs
	Held    []TenantID     // whose claims it goes on with
	// Want is how many targets more it could begin now, over all servers; None has
	// the ids of servers that it can't reach.
	Want int
	None []string
}

// TurnTaken is the answer.
type TurnTaken struct {
	Rollout Rollout
	Claims  []TargetClaim
	// Left counts, in the current wave and those before it, what isn't ended, up to
	// ten of each wave and server. NextIn is when the first of those that wait is due, 0 now, and
	// also when none waits.
	Left   int
	NextIn time.Duration
	// Lost are tenants whose claims were no longer theirs: nothing was recorded.
	Lost []TenantID
}
