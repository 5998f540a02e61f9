package cli

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// serverFlags are what can be said of a server when it is added and later.
type serverFlags struct {
	state                                string
	labels, plans                        []string
	ready, maxDatabases, budget, reserve int
	maxRecovery                          time.Duration
	disk                                 string
}

func (s *serverFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&s.labels, "label", nil, "KEY=VALUE, repeated: what tenants can be pinned to; '' for none")
	f.StringArrayVar(&s.plans, "plan", nil, "repeated: it takes these plans only, and they go nowhere else; '' for none")
	f.IntVar(&s.ready, "ready", 0, "ready databases to keep for new tenants")
	f.IntVar(&s.maxDatabases, "max-databases", 0, "databases at most (default: as many as recovery allows)")
	f.DurationVar(&s.maxRecovery, "max-recovery", 0, "what coming back from a crash may take, in whole seconds (default: 2m)")
	f.StringVar(&s.disk, "disk", "", "what its disk has for data, as 500GB or 2TiB; 0: not known")
	f.IntVar(&s.budget, "budget", 0, "connections for tenants (default: what max_connections leaves)")
	f.IntVar(&s.reserve, "reserve", 0, "connections kept for administration (default: a tenth, at least 5)")
}

// patch is what was said.
func (s *serverFlags) patch(c *cobra.Command) (p catalog.ServerPatch, err error) {
	said := c.Flags().Changed
	if said("state") {
		p.State = &s.state
	}
	if said("label") {
		labels, err := pairs("--label", s.labels)
		if err != nil {
			return p, err
		}
		p.Labels = &labels
	}
	if said("plan") {
		plans := []string{}
		for _, plan := range s.plans {
			if plan != "" {
				plans = append(plans, plan)
			}
		}
		p.Plans = &plans
	}
	for flag, n := range map[string]struct {
		value *int
		field **int
	}{
		"ready": {&s.ready, &p.Ready}, "max-databases": {&s.maxDatabases, &p.MaxDatabases},
		"budget": {&s.budget, &p.Budget}, "reserve": {&s.reserve, &p.Reserve},
	} {
		if said(flag) {
			*n.field = n.value
		}
	}
	if said("max-recovery") {
		if s.maxRecovery%time.Second != 0 {
			return p, fmt.Errorf("%w: --max-recovery wants whole seconds, as 90s or 2m", errUsage)
		}
		seconds := int(s.maxRecovery / time.Second)
		p.MaxRecovery = &seconds
	}
	if said("disk") {
		bytes, ok := parseSize(s.disk)
		if !ok {
			return p, fmt.Errorf("%w: --disk wants a size as 500GB or 2TiB, not %q", errUsage, s.disk)
		}
		p.DiskBytes = &bytes
	}
	return p, nil
}

// into says of a server that is added what the patch says.
func (s *serverFlags) into(a *fleet.ServerAdd, p catalog.ServerPatch) {
	a.Ready, a.MaxDatabases, a.Budget, a.Reserve = s.ready, s.maxDatabases, s.budget, s.reserve
	if p.Labels != nil {
		a.Labels = *p.Labels
	}
	if p.Plans != nil {
		a.Plans = *p.Plans
	}
	if p.MaxRecovery != nil {
		a.MaxRecovery = *p.MaxRecovery
	}
	if p.DiskBytes != nil {
		a.DiskBytes = *p.DiskBytes
	}
}

// pairs reads KEY=VALUE, each; empty ones are none.
func pairs(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, l := range list {
		if l == "" {
			continue
		}
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return nil, fmt.Errorf("%w: %s wants KEY=VALUE, not %q", errUsage, flag, l)
		}
		m[k] = v
	}
	return m, nil
}

var sizePattern = regexp.MustCompile(`^([0-9]{1,18}(?:\.[0-9]+)?) ?(?:([kKMGTP])(i?))?B?$`)

// parseSize reads a number of bytes: 1.5TB, 500 GB, 2GiB, 1000.
func parseSize(text string) (bytes int64, ok bool) {
	m := sizePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	base := 1000.0
	if m[3] != "" {
		base = 1024
	}
	if m[2] != "" {
		n *= math.Pow(base, float64(1+strings.Index("KMGTP", strings.ToUpper(m[2]))))
	}
	if err != nil || n > math.MaxInt64/2 {
		return 0, false
	}
	return int64(n), true
}
