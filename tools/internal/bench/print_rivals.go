package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/orderflow/orderflow/tools/internal/terminal"
)

func (r Report) printRatios(out io.Writer, style terminal.Style) {
	if len(r.Ratios) == 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold("Ours against the orchestrator"))
	for _, q := range r.Ratios {
		_, _ = fmt.Fprintf(out, "  %s: %.1f / %.1f orders/s = %.2f; CPU an order %.2f / %.2f ms\n", q.What, q.Ours, q.Theirs, q.Times, q.OursCPU, q.TheirsCPU)
	}
}

// header and row write cells; the numbers of components stand last, by their names' order.
func header(w io.Writer, cells []string, used map[string]float64) {
	for _, name := range slices.Sorted(maps.Keys(used)) {
		cells = append(cells, name+" CPU us")
	}
	_, _ = fmt.Fprintln(w, "  "+strings.Join(cells, "\t")+"\tall CPU us\t")
}

func row(w io.Writer, cells []string, used map[string]float64) {
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(used)) {
		cells = append(cells, fmt.Sprintf("%.1f", used[name]))
		sum += used[name]
	}
	_, _ = fmt.Fprintf(w, "  %s\t%.1f\t\n", strings.Join(cells, "\t"), sum)
}

func (r Report) printConsumptions(out io.Writer, style terminal.Style) {
	if len(r.Consumptions) == 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold("Subscribers: messages that wait in a topic, a handler that waits"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	header(w, []string{"partitions", "keys", "handler ms", "subscriber", "messages", "messages/s"}, r.Consumptions[0].CPUMicros)
	for _, c := range r.Consumptions {
		row(w, []string{
			fmt.Sprint(c.Partitions), fmt.Sprint(c.Keys), fmt.Sprint(c.HandlerMillis), c.Subscriber, fmt.Sprint(c.Messages), fmt.Sprintf("%.1f", c.PerSecond),
		}, c.CPUMicros)
	}
	_ = w.Flush() // nobody to tell
}

func (r Report) printOutboxes(out io.Writer, style terminal.Style) {
	if len(r.Outboxes) == 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold("Outboxes: messages that wait are carried to Kafka; CPU a message"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	header(w, []string{"outbox", "messages", "messages/s"}, r.Outboxes[0].CPUMicros)
	for _, o := range r.Outboxes {
		row(w, []string{o.Outbox, fmt.Sprint(o.Messages), fmt.Sprintf("%.1f", o.PerSecond)}, o.CPUMicros)
	}
	_ = w.Flush() // nobody to tell
	_, _ = fmt.Fprintf(out, "\n%s\n", style.Bold(fmt.Sprintf("Outboxes: %d messages a second, from commit to a consumer", trickleRate)))
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	header(w, []string{"outbox", "messages", "p50 ms", "p90", "p99", "p99.9", "max"}, r.Outboxes[0].TrickleCPUMicros)
	for _, o := range r.Outboxes {
		cells := []string{o.Outbox, fmt.Sprint(o.Trickle.Count)}
		for _, v := range []float64{o.Trickle.P50, o.Trickle.P90, o.Trickle.P99, o.Trickle.P999, o.Trickle.Max} {
			cells = append(cells, fmt.Sprintf("%.1f", v))
		}
		row(w, cells, o.TrickleCPUMicros)
	}
	_ = w.Flush() // nobody to tell
}
