package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wasilibs/go-pgquery/parser"
	"google.golang.org/protobuf/encoding/protowire"
)

// errParser says that the parser itself fails, whatever it is given.
var errParser = errors.New("the parser doesn't work in this process")

const (
	// largest is how long a statement may be, in bytes.
	largest = 1 << 20
	// deepest is how many words may stand inside each other, at most: the parser's own
	// stack ends at about twice as many, and with it the parser.
	deepest = 1000
)

// engine is the one instance of the parser.
var engine struct {
	mu     sync.Mutex // guards what follows, and each call
	ready  bool
	broken bool // it trapped: its memory is in no known state
}

// start makes sure that the parser works.
func start() error {
	engine.mu.Lock()
	ready := engine.ready
	engine.mu.Unlock()
	if ready {
		return nil
	}
	_, err := guarded(func() (string, error) { return parser.ParseToJSON("select 1") })
	if err != nil {
		return err
	}
	engine.mu.Lock()
	defer engine.mu.Unlock()
	engine.ready = true
	return nil
}

// guarded calls the parser. After a trap, which is a panic there, nothing that it says
// could be trusted.
func guarded[T any](call func() (T, error)) (result T, err error) {
	engine.mu.Lock()
	defer engine.mu.Unlock()
	if engine.broken {
		return result, errParser
	}
	defer func() {
		if trap := recover(); trap != nil {
			engine.broken = true
			err = fmt.Errorf("%w: %v", errParser, trap)
		}
	}()
	return call()
}

// parsed is one statement of a text.
type parsed struct {
	kind       string
	node       node
	start, end int // in the text
}

// syntaxError is where a text can't be read.
type syntaxError struct {
	offset int
	text   string
}

func (e *syntaxError) Error() string { return e.text }

// parse reads the statements of a text. Its error is a *syntaxError or errParser.
func parse(text string) ([]parsed, error) {
	if err := readable(text); err != nil {
		return nil, err
	}
	tree, err := guarded(func() (string, error) { return parser.ParseToJSON(text) })
	if err != nil {
		return nil, located(text, err)
	}
	var result struct {
		Stmts []struct {
			Stmt  map[string]map[string]any `json:"stmt"`
			Start int                       `json:"stmt_location"`
			Len   int                       `json:"stmt_len"`
		} `json:"stmts"`
	}
	if err := json.Unmarshal([]byte(tree), &result); err != nil {
		return nil, &syntaxError{text: "it is too deeply nested to be read here"}
	}
	statements := make([]parsed, 0, len(result.Stmts))
	for _, s := range result.Stmts {
		end := s.Start + s.Len
		if s.Len == 0 {
			end = len(text)
		}
		for kind, n := range s.Stmt { // one
			statements = append(statements, parsed{kind: kind, node: n, start: s.Start, end: end})
		}
	}
	return statements, nil
}

// readable refuses what would hurt the parser, or what it would see only a part of.
func readable(text string) error {
	switch {
	case len(text) > largest:
		return &syntaxError{text: "the statement is longer than 1 MB"}
	case !utf8.ValidString(text):
		return &syntaxError{text: "it isn't UTF-8 text"}
	case strings.ContainsRune(text, 0):
		return &syntaxError{offset: strings.IndexByte(text, 0), text: "it has a NUL character"}
	case len(text) < deepest:
		return nil // nor has it more words
	}
	tokens, err := scan(text)
	if err != nil {
		return err
	}
	if offset, deep := tooDeep(tokens); deep {
		return &syntaxError{offset: offset,
			text: fmt.Sprintf("more than %d words stand inside each other, which can't be read here", deepest)}
	}
	return nil
}

// tooDeep bounds the depth of the tree from above: inside each open bracket, each word
// since the last comma may be one level.
func tooDeep(tokens []token) (offset int, deep bool) {
	depth := 0
	since := []int{0} // words since the last comma, by bracket
	for _, t := range tokens {
		top := len(since) - 1
		switch t.text {
		case ",", ";":
			depth -= since[top]
			since[top] = 0
			continue
		case ")", "]":
			if top > 0 {
				depth -= since[top]
				since = since[:top]
			}
			continue
		}
		since[top]++
		if depth++; depth > deepest {
			return t.start, true
		}
		if t.text == "(" || t.text == "[" {
			since = append(since, 0)
		}
	}
	return 0, false
}

// token is a word of a text, a comment, or another sign.
type token struct {
	start, end int
	text       string
}

func (t token) comment() bool {
	return strings.HasPrefix(t.text, "--") || strings.HasPrefix(t.text, "/*")
}

// literal tells whether it is a text in quotes.
func (t token) literal() bool {
	return strings.HasSuffix(t.text, "'") || len(t.text) > 1 && t.text[0] == '$' && t.text[len(t.text)-1] == '$'
}

// scan cuts a text, which is readable but for its depth, into tokens without comments.
func scan(text string) ([]token, error) {
	raw, err := guarded(func() ([]byte, error) { return parser.ScanToProtobuf(text) })
	if err != nil {
		return nil, located(text, err)
	}
	var tokens []token
	err = fields(raw, func(number protowire.Number, _ uint64, inner []byte) error {
		if number != 2 { // ScanResult.tokens
			return nil
		}
		var t token
		if err := fields(inner, func(number protowire.Number, value uint64, _ []byte) error {
			switch number {
			case 1: // ScanToken.start
				t.start = int(value)
			case 2: // ScanToken.end
				t.end = int(value)
			}
			return nil
		}); err != nil {
			return err
		}
		if t.start < 0 || t.end < t.start || t.end > len(text) {
			return errParser
		}
		if t.text = text[t.start:t.end]; !t.comment() {
			tokens = append(tokens, t)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// fields calls f for each field of a message that is a number or has a length.
func fields(message []byte, f func(protowire.Number, uint64, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errParser
		}
		message = message[n:]
		var value uint64
		var inner []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			inner, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return errParser
		}
		message = message[n:]
		if err := f(number, value, inner); err != nil {
			return err
		}
	}
	return nil
}

// located is the parser's error with its place in bytes: it counts characters, from 1.
func located(text string, err error) error {
	var wrong *parser.Error
	if !errors.As(err, &wrong) {
		return err
	}
	offset, left := len(text), wrong.Cursorpos-1
	for i := range text {
		if left <= 0 {
			offset = i
			break
		}
		left--
	}
	message := strings.Join(strings.Fields(wrong.Message), " ")
	if cut := 80; len(message) > cut { // it quotes the text to its end
		message = strings.ToValidUTF8(message[:cut], "") + " …"
	}
	return &syntaxError{offset: offset, text: message}
}
