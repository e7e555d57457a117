package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/replay"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// replayReport is what a replay tells: to a person as it goes on, to a program at the end.
type replayReport struct {
	console
	json    bool
	summary replaySummary
}

type replaySummary struct {
	ID     string `json:"id"`
	Topic  string `json:"topic"`
	Target string `json:"target"`
	Inbox  string `json:"inbox"`
	// Creates are the topics that are or would be created.
	Creates    []string          `json:"creates"`
	Partitions []replayPartition `json:"partitions"`
	Offsets    int64             `json:"offsets"`
	// Copied counts offsets, over all runs of the replay; Records counts what this run copied.
	Copied  int64 `json:"copied_offsets"`
	Records int64 `json:"copied_records"`
	// DeadLetters is null when the group was not waited for.
	DeadLetters *int `json:"dead_letters"`
}

type replayPartition struct {
	Partition int32      `json:"partition"`
	From      int64      `json:"from"`
	To        int64      `json:"to"`
	Copied    int64      `json:"copied_offsets"`
	First     *time.Time `json:"first_record"`
	Last      *time.Time `json:"last_record"`
}

// text is where a person reads.
func (r *replayReport) text() io.Writer {
	if r.json {
		return r.err
	}
	return r.out
}

func (r *replayReport) say(format string, args ...any) { say(r.text(), format, args...) }

// logger writes what goes wrong and is tried again.
func (r *replayReport) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// plan shows a plan; missing are the topics that are to be created.
func (r *replayReport) plan(ctx context.Context, admin *kafka.Admin, p replay.Plan, missing []string) error {
	firsts, lasts := map[int32]kafka.Range{}, map[int32]kafka.Range{}
	for _, part := range p.Partitions {
		firsts[part.Partition] = kafka.Range{Start: part.From, End: part.To}
		lasts[part.Partition] = kafka.Range{Start: max(part.From, part.To-1), End: part.To}
	}
	first, err := admin.RecordTimes(ctx, p.Topic, firsts)
	if err != nil {
		return err
	}
	last, err := admin.RecordTimes(ctx, p.Topic, lasts)
	if err != nil {
		return err
	}
	again := ""
	if !p.Begun.IsZero() {
		again = ", begun at " + p.Begun.Format(time.RFC3339)
	}
	r.say("%s\n", terminal.For(r.text()).Bold(fmt.Sprintf("Replay %s of %s to %s (inbox: %s)%s", p.ID, p.Topic, deadletter.RedriveTopic(p.Target), p.Inbox, again)))
	table := tabwriter.NewWriter(r.text(), 0, 0, 2, ' ', 0)
	say(table, "PARTITION\tFROM\tTO\tOFFSETS\tCOPIED\tFIRST RECORD\tLAST RECORD\n")
	r.summary = replaySummary{ID: p.ID, Topic: p.Topic, Target: p.Target, Inbox: p.Inbox, Creates: append([]string{}, missing...), Partitions: []replayPartition{}}
	for _, part := range p.Partitions {
		one := replayPartition{Partition: part.Partition, From: part.From, To: part.To}
		row := []string{"-", "-"}
		if at, known := first[part.Partition]; known {
			one.First, row[0] = &at, at.Format(time.RFC3339)
		}
		if at, known := last[part.Partition]; known {
			one.Last, row[1] = &at, at.Format(time.RFC3339)
		}
		r.summary.Partitions = append(r.summary.Partitions, one)
		say(table, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n", part.Partition, part.From, part.To, part.To-part.From, part.Next-part.From, row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	r.copied(p, 0)
	for _, topic := range missing {
		r.say("It creates the topic %s.\n", topic)
	}
	r.say("%d offsets in all, %d of them copied before.\n", p.Total(), p.Done())
	return nil
}

func (r *replayReport) copied(p replay.Plan, records int64) {
	r.summary.Offsets, r.summary.Copied, r.summary.Records = p.Total(), p.Done(), records
	for i, part := range p.Partitions {
		r.summary.Partitions[i].Copied = part.Next - part.From
	}
}

func (r *replayReport) handled(letters int) { r.summary.DeadLetters = &letters }

// end prints the summary for programs.
func (r *replayReport) end() error {
	if !r.json {
		return nil
	}
	return printJSON(r.console, r.summary)
}

// bar shows progress: in place on a terminal, a line now and then elsewhere.
type bar struct {
	out   io.Writer
	what  string
	live  bool
	shown time.Time
}

const (
	barWidth = 30
	// barPause is the time between two lines.
	barPause = 2 * time.Second
)

func (r *replayReport) bar(verb string) *bar { return newBar(r.text(), "offsets "+verb) }

func newBar(out io.Writer, what string) *bar {
	return &bar{out: out, what: what, live: terminal.Is(out), shown: time.Now()}
}

func (b *bar) show(done, total int64) {
	if total == 0 {
		return
	}
	switch {
	case b.live:
		full := int(done * barWidth / total)
		say(b.out, "\r[%s%s] %d of %d %s \x1b[K", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total, b.what)
	case time.Since(b.shown) >= barPause:
		b.shown = time.Now()
		say(b.out, "%d of %d %s\n", done, total, b.what)
	}
}

func (b *bar) close() {
	if b.live {
		say(b.out, "\n")
	}
}
