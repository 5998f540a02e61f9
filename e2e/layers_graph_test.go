package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
)

// graph is what each package of a repository imports.
type graph []node

type node struct {
	path        string
	imports     []string
	testImports []string
}

// keeper says that only the folders by import the package of and those below it.
type keeper struct {
	of  string
	by  []string
	why string
	// testsMay leaves tests out of the rule.
	testsMay bool
}

// repository reads the graph of this one, with the tagged files in it.
func repository(t *testing.T) graph {
	t.Helper()
	out := json.NewDecoder(bytes.NewReader(goList(t, "-tags", "e2e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")))
	var g graph
	for {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := out.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		g = append(g, node{p.ImportPath, p.Imports, slices.Concat(p.TestImports, p.XTestImports)})
	}
	if len(g) == 0 {
		t.Fatal("go list named no package")
	}
	return g
}

// under tells whether a package is the given one or lies below it.
func under(pkg, parent string) bool {
	return pkg == parent || strings.HasPrefix(pkg, parent+"/")
}

// layer returns the top folder of one of our packages and its step in the
// stack, or -1 when it stands on none.
func layer(pkg string) (folder string, step int) {
	rest, ours := strings.CutPrefix(pkg, "freehold/")
	if !ours {
		return "", -1
	}
	folder, _, _ = strings.Cut(rest, "/")
	return folder, slices.IndexFunc(layers, func(on []string) bool { return slices.Contains(on, folder) })
}

// outOfStack finds packages that stand on no step, and imports that don't lead
// down, those of tests included.
func (g graph) outOfStack() []string {
	var found []string
	for _, n := range g {
		folder, step := layer(n.path)
		if step < 0 {
			found = append(found, n.path+" stands in no layer")
			continue
		}
		for _, to := range slices.Concat(n.imports, n.testImports) {
			if to != "freehold" && !strings.HasPrefix(to, "freehold/") {
				continue
			}
			if toFolder, toStep := layer(to); toFolder != folder && toStep >= step {
				found = append(found, fmt.Sprintf("%s imports %s, which isn't below it", n.path, to))
			}
		}
	}
	return found
}

// notKept finds imports that belong to somebody else.
func (g graph) notKept(rules []keeper) []string {
	var found []string
	for _, n := range g {
		for _, rule := range rules {
			if slices.ContainsFunc(rule.by, func(folder string) bool { return under(n.path, "freehold/"+folder) }) {
				continue
			}
			imports := n.imports
			if !rule.testsMay {
				imports = slices.Concat(imports, n.testImports)
			}
			for _, to := range imports {
				if under(to, rule.of) {
					found = append(found, fmt.Sprintf("%s imports %s: %s", n.path, to, rule.why))
				}
			}
		}
	}
	return found
}

// vaguelyNamed finds packages whose name says nothing.
func (g graph) vaguelyNamed() []string {
	var found []string
	for _, n := range g {
		if slices.Contains(vague, path.Base(n.path)) {
			found = append(found, n.path+" has a name that says nothing")
		}
	}
	return found
}

// linkedTestCode finds, among the packages linked into the binary, those that
// belong to tests.
func linkedTestCode(deps []string) []string {
	var found []string
	for _, dep := range deps {
		helper := under(dep, "freehold") && strings.HasSuffix(dep, "test")
		if helper || slices.ContainsFunc(unlinked, func(parent string) bool { return under(dep, parent) }) {
			found = append(found, dep+" is linked into the shipped binary")
		}
	}
	return found
}
