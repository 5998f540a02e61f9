package head

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxTextBytes is how much of a text is looked at.
const maxTextBytes = 8 << 10

// hidden is what stands for personal data: [EMAIL] in training data, [EMAIL_1_…]
// with a request's own nonce in a conversation.
var hidden = regexp.MustCompile(`\[([A-Z]{2,10})(?:_\d+_[a-z0-9]{9})?\]`)

// Normalize returns a prompt as it is to be encoded and compared, in training and
// in serving alike: what stands for hidden personal data is named by its kind
// alone, white space is one blank, and it ends after 8 KB.
func Normalize(text string) string {
	if len(text) > maxTextBytes {
		text = text[:maxTextBytes]
		for len(text) > 0 && !utf8.ValidString(text[max(0, len(text)-utf8.UTFMax):]) {
			text = text[:len(text)-1]
		}
	}
	text = hidden.ReplaceAllStringFunc(text, func(tag string) string {
		return strings.ToLower(hidden.FindStringSubmatch(tag)[1])
	})
	return strings.Join(strings.Fields(text), " ")
}
