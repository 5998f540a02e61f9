package app

import (
	"freehold/cmd/freehold/need"
	"freehold/router"
)

// health is what this node says of itself with its heartbeat, so that any operator
// sees it without asking the node. The router is there before the first heartbeat.
type health struct{ router *router.Router }

func (h *health) text() []byte { return need.NodeHealth(h.router.View(0).Servers).JSON() }
