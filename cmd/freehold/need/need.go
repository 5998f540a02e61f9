package need

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"freehold/catalog"
	"freehold/migrations"
)

// Kinds of needs. They are stable: scripts compare them.
const (
	NoNode            = "no_node"
	ServerDown        = "server_down"
	BreakerOpen       = "breaker_open"
	ServerSilent      = "server_silent"
	OperationFailed   = "operation_failed"
	OperationOverdue  = "operation_overdue"
	Finding           = "finding"
	ServerNearLimit   = "server_near_limit"
	TenantBelowTarget = "tenant_below_target"
	CatalogBackupOld  = "catalog_backup_old"
	MailStuck         = "mail_stuck"
	NodeSilent        = "node_silent"
	ChoreFailed       = "chore_failed"
	ReadyLow          = "ready_low"
	SpoolLeft         = "spool_left"
	AuditLate         = "audit_late"
	VisitFailing      = "visit_failing"
	RolloutHalted     = "rollout_halted"
	RolloutPartial    = "rollout_partial"
	RolloutUnled      = "rollout_unled"
	SchemaDrift       = "schema_drift"
	IndexInvalid      = "index_invalid"
	WorkIdle          = "work_idle"
	WorkFailing       = "work_failing"

	MoveStuck          = "move_stuck"
	DrainHalted        = "drain_halted"
	DrainUnled         = "drain_unled"
	BackupLate         = "backup_late"
	BackupBroken       = "backup_broken"
	RestoreUnconfirmed = "restore_unconfirmed"
	KeptTooLong        = "kept_too_long"
)

// Need is one trouble, of one thing or of many.
type Need struct {
	Kind    string   `json:"kind"`
	What    string   `json:"what"`
	Command string   `json:"command"` // to run next
	Count   int      `json:"count"`   // of things in this trouble
	Names   []string `json:"names"`   // of the first of them
}

// Status is the platform at a glance.
type Status struct {
	Tenants       map[string]int   `json:"tenants"` // by state
	SchemaTarget  int64            `json:"schema_target"`
	ProductTarget int64            `json:"product_target"` // 0: there are no tables of a product
	Servers       []catalog.Server `json:"servers"`
	Nodes         []Node           `json:"nodes"`
	FineTuning    Queue            `json:"fine_tuning"`
	Needs         []Need           `json:"needs"` // the most urgent first; empty is well
}

// Queue is how much of the tenants' fine-tuning there is.
type Queue struct {
	Running int   `json:"running"`
	Waiting int   `json:"waiting"`
	Oldest  int64 `json:"oldest_seconds"` // age of the oldest that waits
}

// Node is a process that serves, or did a short while ago.
type Node struct {
	catalog.Node
	Live   bool   `json:"live"`
	Health Health `json:"health"`
}

// Live are the nodes that give signs of life.
func (s Status) Live() int {
	n := 0
	for _, one := range s.Nodes {
		if one.Live {
			n++
		}
	}
	return n
}

// sources are who looks for what, the most urgent first. A new kind of trouble is
// a constant above, a function and its place here.
var sources = []func(look) []Need{
	noNode, serverDown, breakerOpen, serverSilent, moveStuck, rolloutWaits, rolloutUnled, drainTrouble, operationFailed, operationOverdue, finding, auditLate, spoolLeft, visitFailing,
	serverNearLimit, tenantBelowTarget, schemaDrift, workIdle, workFailing, catalogBackupOld,
	backupBroken, backupLate, restoreUnconfirmed, mailStuck, nodeSilent, choreFailed, keptTooLong, readyLow,
}

// look is what sources look at.
type look struct {
	catalog.Overview
	target int64
	nodes  []Node
}

// Look reads the catalog and says what needs a person.
func Look(ctx context.Context, cat *catalog.Catalog) (Status, error) {
	target, err := migrations.Tenant().Latest()
	if err != nil {
		return Status{}, fmt.Errorf("look at the platform: %w", err)
	}
	o, err := cat.Overview(ctx, target)
	if err != nil {
		return Status{}, err
	}
	return from(o, target), nil
}

func from(o catalog.Overview, target int64) Status {
	l := look{Overview: o, target: target, nodes: []Node{}}
	for _, n := range o.Nodes {
		l.nodes = append(l.nodes, Node{Node: n.Node, Live: n.Silent <= nodeSilence, Health: parseHealth(n.Health)})
	}
	s := Status{Tenants: o.Tenants, SchemaTarget: target, ProductTarget: o.ProductTarget, Servers: o.Servers, Nodes: l.nodes, Needs: []Need{}}
	s.FineTuning = Queue{Running: o.Work.Running, Waiting: o.Work.Waiting, Oldest: int64(o.Work.Oldest.Seconds())}
	if s.Servers == nil {
		s.Servers = []catalog.Server{}
	}
	for _, source := range sources {
		for _, n := range source(l) {
			n.Names = slices.DeleteFunc(n.Names, func(name string) bool { return name == "" })
			if n.Names == nil {
				n.Names = []string{}
			}
			s.Needs = append(s.Needs, n)
		}
	}
	return s
}

// few names up to as many as a group knows, and says how many more there are.
func few(names []string, count int) string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" })
	names = names[:min(len(names), catalog.Sample)]
	list := strings.Join(names, ", ")
	if more := count - len(names); more > 0 && len(names) > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// maxDetail is how much of an error fits on a line.
const maxDetail = 200

// line makes one line of a text, that a terminal can show.
func line(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if runes := []rune(text); len(runes) > maxDetail {
		text = string(runes[:maxDetail]) + "…"
	}
	return text
}

// behind puts a detail behind a colon, if there is one: one line of it.
func behind(what, detail string) string {
	detail = line(detail)
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

// ago is an age for people.
func ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}
