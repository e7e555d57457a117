package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// Print writes the report for a person.
func (r Report) Print(out io.Writer, style terminal.Style) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) } // nobody to tell
	line("%s", style.Bold("Where"))
	revision := ""
	if r.Machine.Revision != "" {
		revision = "; commit " + r.Machine.Revision
	}
	line("  %s, %d cores, %s; Linux %s; %s%s", r.Machine.CPU, r.Machine.Cores, r.Machine.Memory, r.Machine.Kernel,
		r.Machine.Go, revision)
	line("  %s stack: %s", r.Stack, strings.Join(r.Machine.Servers, "; "))
	line("  %s to break in; each load %s of warm-up, then %s measured; seed %d", seconds(r.BreakInSeconds), seconds(r.WarmupSeconds), seconds(r.WindowSeconds), r.Seed)
	closed, accept, open, failed := r.split()
	table(out, style, "Closed loop: so many orders in flight", "in flight", closed)
	table(out, style, "Accepting alone: over so many connections; orders/s are answers 202, ends come later", "connections", accept)
	table(out, style, "Open loop: so many orders a second, latency from the instant that each was due", "due/s", open)
	r.printRatios(out, style)
	good := slices.Concat(closed, accept, open)
	for _, of := range []string{"", RivalOrchestrator} {
		runs, suffix := only(good, of), ""
		if of != "" {
			suffix = " (" + of + ")"
		}
		if len(runs) > 0 {
			components(out, style, "CPU an order by component, ms"+suffix, "%.3f", runs, func(c Component) float64 { return c.CPUMillis }, true)
			components(out, style, "Peak memory by component, MiB"+suffix, "%.0f", runs, func(c Component) float64 { return c.PeakMiB }, false)
		}
	}
	r.printConsumptions(out, style)
	r.printOutboxes(out, style)
	for _, run := range good {
		if f := run.Figures; f.FirstError != "" {
			line("\n  %s: %d errors, such as %s", run.title(), f.Errors, f.FirstError)
		}
	}
	for _, run := range failed {
		line("\n%s", style.Bad(fmt.Sprintf("%s: no figures, because", run.title())))
		for _, wrong := range run.Wrong {
			line("  ✗ %s", strings.ReplaceAll(wrong, "\n", "\n    "))
		}
	}
	if r.OK && len(good) > 0 {
		line("\n%s The last of them:", style.Good("The books balanced after every load."))
		for _, says := range r.Runs[len(r.Runs)-1].Figures.Books {
			line("  %s", says)
		}
	}
}

func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }

// split sorts the runs.
func (r Report) split() (closed, accept, open, failed []Result) {
	for _, run := range r.Runs {
		switch {
		case run.Figures == nil:
			failed = append(failed, run)
		case run.Load.InFlight > 0:
			closed = append(closed, run)
		case run.Load.Accept > 0:
			accept = append(accept, run)
		default:
			open = append(open, run)
		}
	}
	return closed, accept, open, failed
}

// only are the runs of a rival, or ours.
func only(runs []Result, of string) []Result {
	return slices.DeleteFunc(slices.Clone(runs), func(r Result) bool { return r.Of != of })
}

func table(out io.Writer, style terminal.Style, title, first string, runs []Result) {
	if len(runs) == 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold(title))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "  %s\torders/s\tp50 ms\tp90\tp99\tp99.9\taccept p50\tp99\tCPU ms/order\tWAL B/order\ttopic B/order\tcaught up s\trefused\terrors\tothers CPU %%\t\n", first)
	for _, run := range runs {
		f := run.Figures
		wal := "-"
		if f.WALBytes != nil {
			wal = fmt.Sprintf("%.0f", *f.WALBytes)
		}
		_, _ = fmt.Fprintf(w, "  %s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%s\t%.0f\t%.1f\t%d\t%d\t%.0f\t\n", run.row(), f.PerSecond,
			f.EndToEnd.P50, f.EndToEnd.P90, f.EndToEnd.P99, f.EndToEnd.P999, f.Accept.P50, f.Accept.P99,
			f.CPUMillis, wal, f.TopicBytes, f.SettleSeconds, f.Refused, f.Errors, f.OthersPercent)
	}
	_ = w.Flush() // as the lines
}

// components has a row for each component and a column for each run.
func components(out io.Writer, style terminal.Style, title, format string, runs []Result, value func(Component) float64, sum bool) {
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold(title))
	width := 0
	for _, c := range runs[0].Figures.Components {
		width = max(width, len(c.Name))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	name := func(s string) string { return fmt.Sprintf("  %-*s", width, s) }
	heads := []string{name("")}
	for _, run := range runs {
		heads = append(heads, run.Load.String())
	}
	_, _ = fmt.Fprintln(w, strings.Join(heads, "\t")+"\t")
	totals := make([]float64, len(runs))
	for i, c := range runs[0].Figures.Components {
		cells := []string{name(c.Name)}
		for j, run := range runs {
			v := value(run.Figures.Components[i])
			totals[j] += v
			cells = append(cells, fmt.Sprintf(format, v))
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
	}
	if sum {
		cells := []string{name("all")}
		for _, total := range totals {
			cells = append(cells, fmt.Sprintf(format, total))
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
	}
	_ = w.Flush() // as the lines
}
