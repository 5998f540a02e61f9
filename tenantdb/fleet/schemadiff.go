package fleet

import (
	"fmt"
	"slices"
	"strings"

	"freehold/catalog"
)

const (
	// mostDifferences are kept of a tenant: a person reads the first ones.
	mostDifferences = 100
	// mostWords bounds what is kept of a definition, in bytes.
	mostWords = 300
)

// differences tells, object by object, in what a database isn't as it should be.
// Indexes that aren't valid are told by invalid alone. In what is, role is the tenant's
// own: said in one way, tenants with the same differences are alike.
func differences(is, should []object, role string) []catalog.Difference {
	type pair struct{ is, should *object }
	pairs := map[string]*pair{}
	at := func(o object) *pair {
		p := pairs[o.String()]
		if p == nil {
			p = &pair{}
			pairs[o.String()] = p
		}
		return p
	}
	for i := range is {
		at(is[i]).is = &is[i]
	}
	for i := range should {
		at(should[i]).should = &should[i]
	}
	// What belongs to a table that isn't there, or shouldn't be, needs no mention.
	var tables []string
	for _, p := range pairs {
		if o := either(p.is, p.should); (p.is == nil || p.should == nil) && (o.Kind == "table" || o.Kind == "view" || o.Kind == "type") {
			tables = append(tables, o.Name)
		}
	}
	var list []catalog.Difference
	for name, p := range pairs {
		d := catalog.Difference{Object: name, What: catalog.DiffOther}
		switch o := either(p.is, p.should); {
		case o.Kind == kindInvalid, slices.ContainsFunc(tables, o.partOf):
			continue
		case p.is == nil:
			d.What, d.Should = catalog.DiffMissing, words(p.should.Parts, nil)
		case p.should == nil:
			d.What, d.Is = catalog.DiffUnexpected, words(p.is.Parts, nil)
		case slices.Equal(p.is.Parts, p.should.Parts):
			continue
		default:
			d.Is, d.Should = words(p.is.Parts, p.should.Parts), words(p.should.Parts, p.is.Parts)
		}
		d.Is = strings.ReplaceAll(d.Is, role, "<its own role>")
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b catalog.Difference) int { return strings.Compare(a.Object, b.Object) })
	if more := len(list) - mostDifferences; more > 0 {
		list = append(list[:mostDifferences:mostDifferences], catalog.Difference{
			Object: "schema", What: catalog.DiffMore, Is: fmt.Sprintf("%d more differences", more),
		})
	}
	return list
}

func either(a, b *object) *object {
	if a != nil {
		return a
	}
	return b
}

// partOf reports whether it belongs to a table.
func (o object) partOf(table string) bool {
	if o.Kind == "index" {
		on := strings.Join(o.Parts, "")
		return strings.Contains(on, " ON "+table+" USING ") || strings.Contains(on, " ON ONLY "+table+" USING ")
	}
	switch o.Kind {
	case "column", "constraint", "trigger", "rule", "policy":
		return strings.HasPrefix(o.Name, table+".")
	}
	return false
}

// words are the parts that others haven't got.
func words(parts, others []string) string {
	var own []string
	for _, p := range parts {
		if !slices.Contains(others, p) {
			own = append(own, p)
		}
	}
	text := strings.Join(strings.Fields(strings.Join(own, ", ")), " ") // definitions of views have lines
	if len(text) > mostWords {
		text = strings.ToValidUTF8(text[:mostWords], "") + "…"
	}
	return text
}

// invalid names the indexes that aren't valid.
func invalid(objects []object) []string {
	list := []string{}
	for _, o := range objects {
		if o.Kind == kindInvalid {
			list = append(list, o.Name)
		}
	}
	return list
}
