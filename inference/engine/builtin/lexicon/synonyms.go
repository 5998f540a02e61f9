package lexicon

import (
	_ "embed"
	"strings"
)

//go:embed synonyms.txt
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
			if s := Stem(word); groups[s] == 0 {
				groups[s] = n
			}
		}
	}
	return groups
}

// Group returns the number of a stem's group of synonyms, 0 for none.
func Group(stem string) int { return groupOf[stem] }
