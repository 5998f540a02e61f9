package need

import "fmt"

func workIdle(l look) (needs []Need) {
	for _, g := range l.Work.Idle {
		n := Need{Kind: WorkIdle, Count: g.Count, Names: g.Tenants, Command: "freehold worker"}
		wait := "wait"
		if g.Count == 1 {
			wait = "waits"
		}
		n.What = fmt.Sprintf("%s of %s %s for %s: no worker with trainer %s takes it",
			plural(g.Count, "fine-tuning job"), few(g.Tenants, g.OfTenants), wait, ago(g.Waited), g.Trainer)
		needs = append(needs, n)
	}
	return needs
}

func workFailing(l look) (needs []Need) {
	for _, g := range l.Work.Failing {
		fail := "fail"
		if g.Count == 1 {
			fail = "fails"
		}
		needs = append(needs, Need{
			Kind: WorkFailing, Count: g.Count, Names: g.Tenants, Command: "freehold model list",
			What: behind(fmt.Sprintf("%s of %s with trainer %s %s again and again",
				plural(g.Count, "fine-tuning job"), few(g.Tenants, g.OfTenants), g.Trainer, fail), g.Error),
		})
	}
	return needs
}
