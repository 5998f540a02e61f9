package catalog

import (
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Exposed reports whether what is said to the catalog may cross a network in the
// clear: a host of its URL is another machine, and sslmode doesn't insist on TLS
// (the default, prefer, doesn't).
func (c *Catalog) Exposed() bool { return exposed(c.writer.Config().ConnConfig) }

func exposed(cfg *pgx.ConnConfig) bool {
	ways := append([]*pgconn.FallbackConfig{{Host: cfg.Host, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	for _, way := range ways {
		if way.TLSConfig == nil && !onThisMachine(way.Host) {
			return true
		}
	}
	return false
}

// onThisMachine tells loopback addresses and folders of unix sockets.
func onThisMachine(host string) bool {
	if strings.EqualFold(host, "localhost") || strings.HasPrefix(host, "/") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
