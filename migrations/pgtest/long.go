package pgtest

import "os"

// LongEnv names the variable that, when set, asks for the long forms of tests.
const LongEnv = "FREEHOLD_LONG"

// Long reports whether tests should try for longer, and harder, than the few
// seconds that each guarantee has otherwise.
func Long() bool { return os.Getenv(LongEnv) != "" }
