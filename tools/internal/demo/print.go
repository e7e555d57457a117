package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// Print writes the report for a person.
func (r Report) Print(out io.Writer, style terminal.Style) {
	p := printer{out: out, style: style}
	p.head("The scenarios, each with its order's timeline")
	for _, sc := range r.Scenarios {
		p.check(sc.OK, "%s  %s", sc.Name, style.Faint(fmt.Sprintf("(order %s, %.2f s)", short(sc.OrderID), sc.Took)))
		for _, m := range sc.Timeline {
			p.line("      %s  %s", style.Faint(fmt.Sprintf("+%.3f s", m.After)), m.Text)
		}
		p.line("      expected: %s", sc.Expected)
		p.line("      happened: %s", sc.Happened)
		for _, wrong := range sc.Wrong {
			p.line("      %s", style.Bad(wrong))
		}
	}
	p.disturbances(r)
	p.live(r.Live)
	p.letters(r.DeadLetters)

	p.head("The books")
	for _, f := range r.Books.Findings {
		p.check(f.OK, "%s: %s", f.Name, f.Says)
		for _, wrong := range f.Wrong {
			p.line("      %s", style.Bad(wrong))
		}
	}
	p.line("")
	if r.OK {
		p.line("%s", style.Good(fmt.Sprintf("Everything is as it should be, after %.1f s (seed %d).", r.Took, r.Seed)))
		return
	}
	p.line("%s", style.Bad(fmt.Sprintf("Off after %.1f s (seed %d):", r.Took, r.Seed)))
	for _, failure := range r.Failures {
		p.line("  ✗ %s", strings.ReplaceAll(failure, "\n", "\n    "))
	}
}

type printer struct {
	out   io.Writer
	style terminal.Style
}

// line writes one line; nothing can be done when nobody can be reached.
func (p printer) line(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format+"\n", args...) }

func (p printer) head(text string) { p.line("\n%s", p.style.Bold(text)) }

func (p printer) check(ok bool, format string, args ...any) {
	mark := p.style.Good("✓")
	if !ok {
		mark = p.style.Bad("✗")
	}
	p.line("  %s %s", mark, fmt.Sprintf(format, args...))
}

func (p printer) disturbances(r Report) {
	p.head("All at once, and what was done to it")
	l, total := r.Load, 0
	reasons := make([]string, 0, len(l.Cancelled))
	for _, code := range slices.Sorted(maps.Keys(l.Cancelled)) {
		total += l.Cancelled[code]
		reasons = append(reasons, fmt.Sprintf("%d %s", l.Cancelled[code], strings.ReplaceAll(code, "_", " ")))
	}
	p.check(l.Confirmed+total == l.Orders, "%d mixed orders placed within %.1f s and ended after %.1f s: %d confirmed, %d cancelled (%s)",
		l.Orders, l.Placed, l.Ended, l.Confirmed, total, strings.Join(reasons, ", "))
	for _, c := range r.Crashes {
		p.check(c.OK, "%s was killed with SIGKILL after %d of them and was back %.1f s later", c.Name, c.After, c.Down)
	}
	if l.TimedOut > 0 {
		p.line("      %d orders met their deadline meanwhile and were cancelled, as they should be", l.TimedOut)
	}
	p.check(r.Poison.OK, "poison record %s was put aside by %s: %s", r.Poison.Record, r.Poison.Service, terminal.Clip(r.Poison.Error, 80))
	counted := slices.Sorted(maps.Keys(r.Duplicate.Counted))
	p.check(r.Duplicate.OK, "%s of order %s came twice and were handled once (noticed by %s)",
		strings.Join(r.Duplicate.Records, ", "), short(r.Duplicate.OrderID), strings.Join(counted, ", "))
}

func (p printer) live(l Live) {
	p.head("What " + l.Customer + " heard live")
	for _, m := range l.Heard {
		p.line("      %s  %s", p.style.Faint(fmt.Sprintf("+%.3f s", m.After)), m.Text)
	}
	p.check(l.OK, "%d notifications, each once and in order; the connection was broken after %d and resumed", len(l.Heard), breakAfter)
}

func (p printer) letters(all []Letter) {
	p.head("The dead letters")
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  SERVICE\tID\tTYPE\tORDER\tERROR\tNOW")
	for _, l := range all {
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\n", l.Service, l.ID, l.Type, short(l.OrderID),
			l.ErrorType+": "+terminal.Clip(l.Error, 48), l.State)
	}
	_ = table.Flush() // as line
}
