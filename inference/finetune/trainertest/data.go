package trainertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Canary stands in each example, and is found nowhere by chance: no event and no
// error may hold it.
const Canary = "Quetzalcoatl4711"

// answers are the classes of the data, and what is asked for them; the last
// question of each is for validation.
var answers = []struct {
	answer    string
	questions []string
}{
	{"We are open from eight to six, Monday to Saturday.", []string{
		"When do you open?", "What are your opening hours?", "Are you open on Saturday?", "How late can I come by?", "Is the shop open today?", "At what time do you close?",
	}},
	{"You can send it back within thirty days, and we pay the postage.", []string{
		"How do I return a grinder?", "I want my money back", "Can I send back what I bought?", "What is your return policy?", "The kettle is broken, can I return it?", "How long may I return things?",
	}},
	{"Delivery takes two days and costs four pounds.", []string{
		"How long does delivery take?", "When will my parcel arrive?", "What does shipping cost?", "How much is the postage?", "Do you deliver to my home?", "How fast is your shipping?",
	}},
}

// Data writes the small example data, chat examples of three classes with five
// questions each, and one of each to validate. The sum is of both.
func Data(t testing.TB, dir string) (train, validation, sum string, examples int) {
	t.Helper()
	var files [2]bytes.Buffer
	for _, class := range answers {
		for i, question := range class.questions {
			file := &files[0]
			if i == len(class.questions)-1 {
				file = &files[1]
			} else {
				examples++
			}
			line, err := json.Marshal(map[string]any{"messages": []map[string]string{
				{"role": "system", "content": "You answer for " + Canary + " Coffee."},
				{"role": "user", "content": question},
				{"role": "assistant", "content": class.answer},
			}})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(file, "%s\n", line)
		}
	}
	h := sha256.New()
	train, validation = filepath.Join(dir, "train.jsonl"), filepath.Join(dir, "validation.jsonl")
	for i, path := range []string{train, validation} {
		h.Write(files[i].Bytes())
		if err := os.WriteFile(path, files[i].Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return train, validation, hex.EncodeToString(h.Sum(nil)), examples
}
