package inference

import "context"

// Combiner has numbers go together.
type Combiner struct{ c combiner[int, int] }

// Do is combiner.do on one lane; equal numbers never go together.
func (c *Combiner) Do(ctx context.Context, n int, flush func(context.Context, []int) ([]int, error)) (int, error) {
	return c.c.do(ctx, "lane", n, func(a, b int) bool { return a == b }, flush)
}

// Idle reports whether nobody is under way.
func (c *Combiner) Idle() bool {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return len(c.c.lanes) == 0
}
