package pii

// Steps is how much work Find does on a text, in bytes looked at and recognisers
// asked.
func Steps(s *Scanner, text string) int {
	sc := s.scan(text, "")
	defer sc.free()
	return sc.steps + len(text)
}
