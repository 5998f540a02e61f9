package lint

import "freehold/migrations"

// Shipped are the findings that released files are excused, by stream, file and rule.
var Shipped = shipped

// Split cuts a migration into what goose would send, and tells whether it can.
func Split(body string) (up, down []string, noTx, ok bool) {
	src := split(migrations.File{Body: body})
	for _, c := range src.parts {
		if c.down {
			down = append(down, c.text)
		} else {
			up = append(up, c.text)
		}
	}
	return up, down, src.noTx, src.wrong == nil
}
