package dataset

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Redacted is what Redact wrote.
type Redacted struct {
	Examples int
	Bytes    int64
	Sum      string         // sha-256 of it, in hex
	Personal map[string]int // values hidden, by entity
}

// Redact writes a file's examples as trainers get them, one line each: personal data
// hidden by the policy, all that a message has kept, members in a fixed order, nulls
// (but of a content) and white space left out. Equal files under equal policies give
// equal bytes. The file should have passed Validate: an error in it ends Redact with
// *LineError. Other errors are r's, w's and ctx's.
func Redact(ctx context.Context, r io.Reader, w io.Writer, p Policy) (Redacted, error) {
	var (
		res  = Redacted{Personal: map[string]int{}}
		hide = newHider(p)
		sum  = sha256.New()
		out  = bufio.NewWriterSize(io.MultiWriter(sum, w), readAhead)
	)
	_, err := each(ctx, r, func(_ int, ex *example) error {
		for entity, n := range hide.example(ex) {
			res.Personal[entity] += n
		}
		line, err := ex.canonical()
		if err != nil {
			return err
		}
		res.Examples++
		res.Bytes += int64(len(line))
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write data: %w", err)
		}
		return nil
	}, func(e *LineError) error { return e })
	if err != nil {
		return Redacted{}, err
	}
	if err := out.Flush(); err != nil {
		return Redacted{}, fmt.Errorf("write data: %w", err)
	}
	res.Sum = hex.EncodeToString(sum.Sum(nil))
	return res, nil
}

// canonical is the example's line, with its end.
func (ex *example) canonical() ([]byte, error) {
	c := &canon{}
	c.WriteString(`{"messages":[`)
	for i, m := range ex.messages {
		if i > 0 {
			c.WriteByte(',')
		}
		c.WriteString(`{"role":"` + m.role + `","content":`)
		if m.content == nil {
			c.WriteString("null")
		} else {
			c.value(m.content)
		}
		c.members(m.rest)
		c.WriteByte('}')
	}
	c.WriteByte(']')
	c.members(ex.rest)
	c.WriteString("}\n")
	return c.Bytes(), c.err
}

// canon writes canonical JSON: an object's members by their names, no white space, as
// few escapes as can be, numbers as they came.
type canon struct {
	bytes.Buffer
	encoder *json.Encoder // into the buffer; made when it is needed
	err     error
}

func (c *canon) members(list []member) {
	for _, m := range list {
		c.WriteString(`,"` + m.name + `":`)
		c.value(m.value)
	}
}

func (c *canon) value(raw []byte) {
	v, isText := any(nil), false
	if v, isText = textOf(raw); !isText {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			c.err = cmp.Or(c.err, fmt.Errorf("write data: %w", err))
			return
		}
	}
	if c.encoder == nil {
		c.encoder = json.NewEncoder(&c.Buffer)
		c.encoder.SetEscapeHTML(false)
	}
	if err := c.encoder.Encode(v); err != nil {
		c.err = cmp.Or(c.err, fmt.Errorf("write data: %w", err))
		return
	}
	c.Truncate(c.Len() - 1) // the encoder's line end
}
