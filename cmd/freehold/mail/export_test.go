package mail

import "time"

// Within has a sender wait for less long.
func (s *Sender) Within(d time.Duration) *Sender {
	s.within = d
	return s
}
