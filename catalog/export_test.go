package catalog

// For their own tests.
var (
	FairParts = fairParts
	Exposed   = exposed
)

// Dumped and Undumped are the tables that a dump holds and leaves out.
func Dumped() (names []string) {
	for _, t := range dumped {
		names = append(names, t.name)
	}
	return names
}

func Undumped() []string { return undumped }
