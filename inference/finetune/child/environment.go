package child

import (
	"os"
	"slices"
	"strings"
)

// basics are the names that a command may know of the worker's environment.
var basics = []string{"PATH", "HOME", "LANG", "TMPDIR"}

// environment is what a command gets: the basics, and what was asked for, which
// wins. No name is there twice: which one counts would be the reader's choice.
func environment(asked []string) []string {
	env := []string{}
	for _, name := range basics {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, pair := range asked {
		name, _, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			continue
		}
		env = slices.DeleteFunc(env, func(other string) bool { return strings.HasPrefix(other, name+"=") })
		env = append(env, pair)
	}
	return env
}
