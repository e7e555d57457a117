package accept

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// pattern is a regular expression, with a table to match ASCII by.
type pattern struct {
	re *regexp.Regexp
	// steps says for each state and ASCII character which state is next. State 0 is "no match any more", 1 the start.
	// Without steps, re matches everything.
	steps [][utf8.RuneSelf]uint8
	// final are the states in which a text may end.
	final []bool
}

// matches reports what re says of a text.
func (p *pattern) matches(s []byte, ascii bool) bool {
	if p.steps == nil || !ascii {
		return p.re.Match(s)
	}
	state := uint8(1)
	for _, c := range s {
		state = p.steps[state][c&(utf8.RuneSelf-1)]
	}
	return p.final[state]
}

// newPattern builds the table by the subset construction: a state is the set of instructions of re's program that a text can
// have led to. It does so for ^…$ without other assertions of place, where the whole text must match what is between,
// and up to 255 states.
func newPattern(re *regexp.Regexp) *pattern {
	plain := &pattern{re: re}
	prog := program(re.String())
	if prog == nil {
		return plain
	}
	p := &pattern{re: re, steps: make([][utf8.RuneSelf]uint8, 1), final: make([]bool, 1)}
	known := map[string]uint8{fmt.Sprint([]uint32(nil)): 0}
	sets := [][]uint32{nil}
	state := func(set []uint32) uint8 {
		slices.Sort(set)
		name := fmt.Sprint(set)
		i, ok := known[name]
		if !ok {
			i = uint8(len(sets)) // At most 255, as the loop below sees to.
			known[name] = i
			sets = append(sets, set)
			p.steps = append(p.steps, [utf8.RuneSelf]uint8{})
			p.final = append(p.final, slices.ContainsFunc(set, func(pc uint32) bool { return prog.Inst[pc].Op == syntax.InstMatch }))
		}
		return i
	}
	state(follow(prog, nil, uint32(prog.Start)))
	for i := 1; i < len(sets); i++ {
		var before []uint32
		for c := range rune(utf8.RuneSelf) {
			var to []uint32
			for _, pc := range sets[i] {
				if takes(&prog.Inst[pc], c) {
					to = append(to, prog.Inst[pc].Out)
				}
			}
			if c > 0 && slices.Equal(to, before) {
				p.steps[i][c] = p.steps[i][c-1]
				continue
			}
			before = to
			var set []uint32
			for _, pc := range to {
				set = follow(prog, set, pc)
			}
			if len(sets) > 255 {
				return plain
			}
			p.steps[i][c] = state(set)
		}
	}
	return p
}

// program compiles, as package regexp does, what is between ^ and $. It is nil if the expression is not of that form.
func program(expr string) *syntax.Prog {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || tree.Op != syntax.OpConcat {
		return nil
	}
	last := len(tree.Sub) - 1
	if tree.Sub[0].Op != syntax.OpBeginText || tree.Sub[last].Op != syntax.OpEndText || last == 0 {
		return nil
	}
	tree.Sub = tree.Sub[1:last]
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || slices.ContainsFunc(prog.Inst, func(i syntax.Inst) bool { return i.Op == syntax.InstEmptyWidth }) {
		return nil
	}
	return prog
}

// follow adds to a set the instructions that take a character or match, as reached from pc without taking any.
func follow(prog *syntax.Prog, set []uint32, pc uint32) []uint32 {
	seen := make([]bool, len(prog.Inst))
	var visit func(pc uint32)
	visit = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch i := &prog.Inst[pc]; i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			visit(i.Out)
			visit(i.Arg)
		case syntax.InstCapture, syntax.InstNop:
			visit(i.Out)
		default:
			if !slices.Contains(set, pc) {
				set = append(set, pc)
			}
		}
	}
	visit(pc)
	return set
}

func takes(i *syntax.Inst, c rune) bool {
	switch i.Op {
	case syntax.InstRune, syntax.InstRune1:
		return i.MatchRune(c)
	case syntax.InstRuneAny:
		return true
	case syntax.InstRuneAnyNotNL:
		return c != '\n'
	default:
		return false
	}
}
