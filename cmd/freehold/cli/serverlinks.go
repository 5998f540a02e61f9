package cli

import (
	"strings"

	"freehold/catalog"
)

// arrivals says how tenants get to a server from each other one, of what was tried.
func arrivals(server string, servers []catalog.Server, links []catalog.ServerLink) string {
	tried := map[string]catalog.ServerLink{}
	for _, l := range links {
		if l.Target == server {
			tried[l.Source] = l
		}
	}
	var replicated, copied []string
	for _, s := range servers {
		l, known := tried[s.Name]
		switch {
		case s.Name == server:
		case !known:
			copied = append(copied, s.Name+" (not tried yet)")
		case l.Why != "":
			copied = append(copied, s.Name+" ("+l.Why+")")
		default:
			replicated = append(replicated, s.Name)
		}
	}
	var parts []string
	if replicated != nil {
		parts = append(parts, "by replication from: "+strings.Join(replicated, ", "))
	}
	if copied != nil {
		parts = append(parts, "by copy from: "+strings.Join(copied, ", "))
	}
	return strings.Join(parts, " · ")
}
