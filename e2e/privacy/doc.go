// Package privacy holds tests of what must not be found: personal data where
// detection is on (G10), secrets and prompts anywhere (G14). They send many values
// that are told apart, through a real node, and then search all that it leaves
// behind: databases, objects, log, metrics, traces, and what the engine was sent.
package privacy
