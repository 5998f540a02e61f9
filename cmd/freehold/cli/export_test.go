package cli

// For tests in cli_test.
var (
	Attended  = attended
	ParseSize = parseSize

	RolloutLines = rolloutLines
	Summary      = summary
	DrawnBar     = drawnBar
)
