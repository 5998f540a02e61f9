package pii

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// nationalRegions are the regions whose numbers are known without a country code,
// with what is dialed before a number there.
var nationalRegions = []struct {
	region, trunk string
}{
	{"US", "1"}, {"CA", "1"}, {"GB", "0"}, {"DE", "0"}, {"FR", "0"}, {"IL", "0"}, {"IN", "0"}, {"BR", "0"},
}

// plan is the world's numbering plan, as libphonenumber has it, in a form that is
// quick to ask: its own Parse takes tens of microseconds.
type plan struct {
	lengths  map[int]uint32 // by calling code, the possible lengths after it, as bits
	national []*machine     // as nationalRegions
}

// numbering is made at first use: that takes some milliseconds.
var numbering = sync.OnceValue(func() *plan {
	p := &plan{lengths: map[int]uint32{}, national: make([]*machine, len(nationalRegions))}
	// The library has read the same data when it was linked; it can't fail here.
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		panic("numbering plan: " + err.Error())
	}
	for _, m := range all.GetMetadata() {
		for _, n := range m.GetGeneralDesc().GetPossibleLength() {
			if n > 0 && n < 32 {
				p.lengths[int(m.GetCountryCode())] |= 1 << n
			}
		}
		for i, r := range nationalRegions {
			if m.GetId() != r.region {
				continue
			}
			var patterns []string
			for _, d := range []*phonenumbers.PhoneNumberDesc{m.GetFixedLine(), m.GetMobile(), m.GetTollFree(),
				m.GetPremiumRate(), m.GetSharedCost(), m.GetPersonalNumber(), m.GetVoip(), m.GetUan()} {
				if pattern := d.GetNationalNumberPattern(); pattern != "" && pattern != "NA" {
					patterns = append(patterns, pattern)
				}
			}
			p.national[i] = newMachine(patterns)
		}
	}
	return p
})

// dialable reports whether digits begin with a calling code and have a length
// that is possible there.
func dialable(num []byte) bool {
	p := numbering()
	code := 0
	for i := range min(3, len(num)) {
		code = code*10 + int(num[i]-'0')
		if lengths := p.lengths[code]; code > 0 && lengths != 0 {
			return lengths&(1<<min(31, len(num)-i-1)) != 0
		}
	}
	return false
}

// nationalNumber reports whether digits are a valid number of one of the regions,
// with the trunk prefix or, if bare, without it.
func nationalNumber(num []byte, bare bool) bool {
	p := numbering()
	for i, r := range nationalRegions {
		rest, ok := strings.CutPrefix(string(num), r.trunk)
		if ok && p.national[i].match(rest) || bare && p.national[i].match(string(num)) {
			return true
		}
	}
	return false
}

// machine is a deterministic automaton over digits.
type machine struct {
	next   [][10]int32 // 0 is the state that nothing leads out of
	accept []bool
}

// newMachine makes the automaton that accepts what one of the patterns matches as
// a whole. The patterns are of digits alone: libphonenumber's.
func newMachine(patterns []string) *machine {
	parsed, err := syntax.Parse("(?:"+strings.Join(patterns, ")|(?:")+")", syntax.Perl)
	if err != nil {
		return new(machine)
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return new(machine)
	}
	b := &builder{prog: prog, states: map[string]int32{"": 0}, m: &machine{next: make([][10]int32, 1), accept: make([]bool, 1)}}
	b.state(b.close([]uint32{uint32(prog.Start)}))
	for i := 1; i < len(b.sets); i++ { // b.sets grows
		for d := range 10 {
			var to []uint32
			for _, pc := range b.sets[i] {
				if in := &prog.Inst[pc]; in.Op != syntax.InstMatch && in.MatchRune('0'+rune(d)) {
					to = append(to, in.Out)
				}
			}
			b.m.next[i][d] = b.state(b.close(to))
		}
	}
	return b.m
}

// builder is the subset construction.
type builder struct {
	prog   *syntax.Prog
	states map[string]int32
	sets   [][]uint32
	m      *machine
}

// close follows all that consumes nothing.
func (b *builder) close(pcs []uint32) []uint32 {
	seen := map[uint32]bool{}
	var out []uint32
	for len(pcs) > 0 {
		pc := pcs[len(pcs)-1]
		pcs = pcs[:len(pcs)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch in := &b.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			pcs = append(pcs, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
			pcs = append(pcs, in.Out)
		case syntax.InstFail:
		default:
			out = append(out, pc)
		}
	}
	slices.Sort(out)
	return out
}

// state is the number of a set of instructions.
func (b *builder) state(set []uint32) int32 {
	var key []byte
	for _, pc := range set {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	if n, ok := b.states[string(key)]; ok {
		return n
	}
	if b.sets == nil {
		b.sets = make([][]uint32, 1)
	}
	n := int32(len(b.sets))
	b.states[string(key)] = n
	b.sets = append(b.sets, set)
	b.m.next = append(b.m.next, [10]int32{})
	b.m.accept = append(b.m.accept, slices.ContainsFunc(set, func(pc uint32) bool {
		return b.prog.Inst[pc].Op == syntax.InstMatch
	}))
	return n
}

// match reports whether the automaton accepts the digits.
func (m *machine) match(num string) bool {
	if len(m.next) < 2 {
		return false
	}
	state := int32(1)
	for i := range len(num) {
		if state = m.next[state][num[i]-'0']; state == 0 {
			return false
		}
	}
	return m.accept[state]
}
