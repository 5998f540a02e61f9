package privacy_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"freehold/inference/pii"
)

// planted is a value that is in one request alone.
type planted struct {
	value  string
	kind   pii.Entity
	oneWay bool // never brought back
}

// planter makes values up, each another one.
type planter struct {
	testing.TB
	*rand.Rand
	scanner *pii.Scanner
	series  int // values of two planters differ
	n       int
	all     []planted // in the order in which they were made
}

func newPlanter(t testing.TB, series int) *planter {
	return &planter{TB: t, Rand: rand.New(rand.NewPCG(1, uint64(series))), scanner: pii.New(pii.Options{}), series: series}
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (p *planter) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[p.IntN(len(alphabet))]
	}
	return string(b)
}

// kinds are what is planted, in turn: a value, and the text around it (%s) where
// it may stand with words. Values have a fixed length: none begins another one.
var kinds = []struct {
	kind pii.Entity
	make func(p *planter) string
	said string
}{
	{pii.Email, func(p *planter) string { return fmt.Sprintf("planted.%d.%05d@mail.example.com", p.series, p.n) }, "write to %s today"},
	{pii.Card, func(p *planter) string { return p.card() }, "card %s, please"},
	{pii.Phone, func(p *planter) string { return fmt.Sprintf("+49 30 9%d%05d", p.series, p.n) }, "call %s in the evening"},
	{pii.IP, func(p *planter) string {
		return fmt.Sprintf("1%d1.%d.%d.%d", p.series, 100+p.n/150%150, 100+p.n%150, 200+p.n/22500)
	}, "from %s again"},
	{pii.Key, func(p *planter) string { return "sk-proj-" + p.of(letters, 20) + "9" + p.of(letters, 20) }, "with %s as key"},
	{pii.IBAN, func(p *planter) string { return p.iban() }, "to account %s now"},
	{pii.SSN, func(p *planter) string {
		return fmt.Sprintf("%d%02d-%02d-%04d", 1+p.series, p.n/1000%100, 11+p.series, 1000+p.n%1000)
	}, "my ssn is %s"},
	{pii.MAC, func(p *planter) string {
		return fmt.Sprintf("02:4a:%02x:a%x:%02x:%02x", 16+p.series, p.n>>16&15, p.n>>8&255, p.n&255)
	}, "card with mac %s here"},
	{pii.JWT, func(p *planter) string {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
		return header + "." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"%d-%05d"}`, p.series, p.n)) + "." + p.of(letters, 43)
	}, "bearer %s"},
	{pii.IP, func(p *planter) string {
		return fmt.Sprintf("2001:db8:a%03x:b%03x:1001:2002:c003:d%03x", p.series, p.n>>12, p.n&0xfff)
	}, "host %s answers"},
	{pii.Key, func(p *planter) string { return "AKIA" + p.of(letters[:26], 15) + "7" }, "aws %s is it"},
}

func (p *planter) card() string {
	digits := fmt.Sprintf("4%02d%05d%07d", 10+p.series, p.n, p.IntN(1e7))
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	return digits + fmt.Sprint((10-sum%10)%10)
}

func (p *planter) iban() string {
	account := fmt.Sprintf("%08d%010d", 10000000+p.series, p.n*10007)
	n, _ := new(big.Int).SetString(account+"131400", 10) // DE00
	return fmt.Sprintf("DE%02d%s", 98-n.Mod(n, big.NewInt(97)).Int64(), account)
}

// next plants a value of at most so many bytes, and returns it with its kind's
// words.
func (p *planter) next(most int) (value, said string) {
	for {
		p.n++
		k := kinds[p.n%len(kinds)]
		if value = k.make(p); len(value) > most {
			continue
		}
		p.all = append(p.all, planted{value, k.kind, k.kind.OneWay()})
		return value, fmt.Sprintf(k.said, value)
	}
}

// text plants a value in a sentence.
func (p *planter) text() string {
	_, said := p.next(1000)
	return said
}

// alone plants a value that stands without any word.
func (p *planter) alone(most int) string {
	for {
		value, _ := p.next(most)
		if p.scanner.Tag(value) != value {
			return value
		}
		p.all = p.all[:len(p.all)-1]
	}
}

// long plants what is written over lines, or needs escapes in JSON.
func (p *planter) long() string {
	p.n++
	body := p.of(letters, 64)
	secret := fmt.Sprintf("user%d-%05d:%s", p.series, p.n, p.of(letters, 12))
	p.all = append(p.all, planted{body, pii.Key, true}, planted{secret, pii.URL, true})
	return "see\n-----BEGIN PRIVATE KEY-----\n" + body + "\n" + p.of(letters, 64) + "\n-----END PRIVATE KEY-----\n" +
		"at https://" + secret + "@db.example.com/x \"soon\" \\ <b>" + p.text() + "</b>"
}

// number plants a card as a number.
func (p *planter) number() json.RawMessage {
	p.n++
	value := p.card()
	p.all = append(p.all, planted{value, pii.Card, false})
	return json.RawMessage(value)
}

// document plants values in each place of a document, as a JSON text.
func (p *planter) document() string {
	b, err := json.Marshal(map[string]any{
		"to": p.text(), "list": []any{p.text(), map[string]any{"deep": p.long()}}, p.alone(100): true,
		"card": p.number(), "nested": fmt.Sprintf(`{"mail":%q}`, p.text()),
	})
	if err != nil {
		p.Fatal(err)
	}
	return string(b)
}

// conversation plants a value in each place that a message has.
func (p *planter) conversation() []any {
	call := func(id string) []any {
		return []any{
			map[string]any{"id": id, "type": "function", "function": map[string]any{"name": "mail", "arguments": p.document()}},
			map[string]any{"id": "call_c", "type": "custom", "custom": map[string]any{"name": "say", "input": p.text()}},
		}
	}
	id := p.alone(60)
	inside := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a picture ", 10)))
	return []any{
		map[string]any{"role": "developer", "content": p.text(), "name": p.alone(60)},
		map[string]any{"role": "system", "content": []any{text(p.text()), text(p.long())}},
		map[string]any{"role": "user", "name": p.alone(60), "content": []any{
			text(p.text()),
			map[string]any{"type": "image_url", "image_url": map[string]any{"url": "https://img.example.com/?of=" + p.alone(60), "detail": "low"}},
			map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:text/plain," + p.alone(60)}},
			map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:image/png;base64," + inside}},
			map[string]any{"type": "file", "file": map[string]any{"filename": p.text() + ".pdf", "file_data": inside}},
			map[string]any{"type": "file", "file": map[string]any{"filename": "a.txt", "file_data": p.text()}},
			map[string]any{"type": "file", "file": map[string]any{"file_id": p.alone(60)}},
			map[string]any{"type": "input_audio", "input_audio": map[string]any{"data": inside, "format": "wav", "transcript": p.text()}},
		}},
		map[string]any{"role": "assistant", "content": p.text(), "refusal": p.text(), "reasoning_content": p.text(), "name": p.alone(60),
			"annotations": []any{map[string]any{"type": "url_citation", "title": p.text()}}, "tool_calls": call(id)},
		map[string]any{"role": "tool", "tool_call_id": id, "content": []any{text(p.document())}},
		map[string]any{"role": "assistant", "content": nil, "function_call": map[string]any{"name": "f", "arguments": p.document()}},
		map[string]any{"role": "function", "name": p.alone(60), "content": p.document()},
		map[string]any{"role": "user", "content": p.text() + "\n" + p.long()},
	}
}

func text(t string) map[string]any { return map[string]any{"type": "text", "text": t} }

// chat plants values all over a request.
func (p *planter) chat(model string, stream bool) map[string]any {
	schema := func() map[string]any {
		return map[string]any{"type": "object", "description": p.text(), "properties": map[string]any{
			p.alone(60): map[string]any{"enum": []any{p.text(), p.text()}, "default": p.number()},
		}}
	}
	req := map[string]any{
		"model": model, "messages": p.conversation(),
		"tools": []any{
			map[string]any{"type": "function", "function": map[string]any{"name": "f", "description": p.text(), "parameters": schema()}},
			map[string]any{"type": "custom", "custom": map[string]any{"name": "say", "description": p.long()}},
		},
		"functions":            []any{map[string]any{"name": "f", "description": p.text(), "parameters": schema()}},
		"tool_choice":          map[string]any{"type": "function", "function": map[string]any{"name": p.alone(60)}},
		"function_call":        map[string]any{"name": p.alone(60)},
		"response_format":      map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": p.alone(60), "description": p.text(), "schema": schema()}},
		"metadata":             map[string]any{"who": p.text(), p.alone(60): p.text()},
		"prompt_cache_options": map[string]any{"hint": p.text()},
		"moderation":           map[string]any{"note": p.text()},
		"logit_bias":           map[string]any{p.alone(60): 1},
		"stop":                 []string{p.alone(60), p.text()},
		"prediction":           map[string]any{"type": "content", "content": []any{text(p.text())}},
	}
	if stream {
		req["stream"], req["stream_options"] = true, map[string]any{"include_usage": true}
	}
	return req
}

// users plants values where an end user is named: they come back as pseudonyms, if
// at all.
func (p *planter) users(req map[string]any) {
	req["user"], req["safety_identifier"], req["prompt_cache_key"] = p.alone(200), p.alone(60), p.text()
}

// since are the values that were planted after a mark.
func (p *planter) since(mark int) []planted { return p.all[mark:] }

func TestPlanter(t *testing.T) {
	t.Parallel()
	p := newPlanter(t, 1)
	for range 20_000 {
		said := p.text()
		if one := p.all[len(p.all)-1]; strings.Contains(p.scanner.Tag(said), one.value) {
			t.Errorf("not found as it is planted: %s in %q", one.kind, said)
		}
	}
	seen := map[string]bool{}
	for range 20_000 {
		value := p.alone(1000)
		if seen[value] {
			t.Errorf("%s is planted twice", value)
		}
		seen[value] = true
	}
}
