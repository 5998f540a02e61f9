package builtin

import (
	_ "embed"
	"strings"
)

//go:embed data/synonyms.txt
var synonymData string

// groupOf maps a stem to its group of synonyms; the first group of a stem counts.
var groupOf = readSynonyms(synonymData)

func readSynonyms(data string) map[string]int {
	groups := map[string]int{}
	n := 0
	for line := range strings.Lines(data) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		n++
		for _, word := range strings.Fields(line) {
			if s := stem(word); groups[s] == 0 {
				groups[s] = n
			}
		}
	}
	return groups
}
