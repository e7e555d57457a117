package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/internal/terminal"
	"github.com/orderflow/orderflow/tools/topics"
)

type storyCmd struct {
	Brokers []string      `help:"Kafka brokers, host:port separated by commas." env:"KAFKA_BROKERS" required:""`
	Wait    time.Duration `help:"How long reading may take." default:"30s"`
	JSON    bool          `name:"json" help:"Print JSON for programs."`
	Order   string        `arg:"" help:"The order."`
}

// told is one message of a story, for programs.
type told struct {
	At          time.Time         `json:"at"`
	Topic       string            `json:"topic"`
	Partition   int32             `json:"partition"`
	Offset      int64             `json:"offset"`
	Type        string            `json:"type"`
	ID          string            `json:"id"`
	Causation   string            `json:"causation_id"`
	Correlation string            `json:"correlation_id"`
	Trace       string            `json:"trace_id"`
	Headers     map[string]string `json:"headers"`
	Data        json.RawMessage   `json:"data,omitempty"`
}

// Run prints the story, and fails where it breaks the contracts.
func (s storyCmd) Run(ctx context.Context, c console) (err error) {
	if err := (kafka.Config{Brokers: s.Brokers}).Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Wait)
	defer cancel()
	k, err := topics.Open(s.Brokers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	story, err := k.Story(ctx, s.Order)
	if err != nil {
		return err
	}
	if len(story) == 0 {
		return fmt.Errorf("the topics know nothing of an order %s", s.Order)
	}
	// A request's id stands nowhere in the topics but as a cause: what no message of the story has led to, a request has.
	ids, outer := map[string]bool{}, []string{}
	for _, e := range story {
		ids[e.Event.ID] = true
	}
	for _, e := range story {
		if !ids[e.Event.CausationID] {
			outer = append(outer, e.Event.CausationID)
		}
	}
	if s.JSON {
		err = s.printJSON(c, story)
	} else {
		err = s.print(c, story)
	}
	if err != nil {
		return err
	}
	if wrong := topics.Check(story, outer...); len(wrong) > 0 {
		return fmt.Errorf("the story breaks the contracts:\n  %s", strings.Join(wrong, "\n  "))
	}
	return nil
}

func (storyCmd) print(c console, story []topics.Entry) error {
	names := map[string]string{}
	for i, e := range story {
		names[e.Event.ID] = fmt.Sprint(i + 1)
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "#\tAFTER\tTYPE\tFROM\tBECAUSE OF\tRECORD\n")
	for i, e := range story {
		cause, ok := names[e.Event.CausationID]
		if !ok {
			cause = e.Event.CausationID
		}
		typ := e.Event.Type
		if e.Err != nil {
			typ = "no message: " + terminal.Clip(e.Err.Error(), 40)
		}
		say(table, "%d\t+%.3f s\t%s\t%s\t%s\t%s-%d-%d\n", i+1, e.Event.Time.Sub(story[0].Event.Time).Seconds(),
			typ, e.Event.Source, cause, e.Topic, e.Partition, e.Offset)
	}
	return table.Flush()
}

func (storyCmd) printJSON(c console, story []topics.Entry) error {
	all := make([]told, len(story))
	for i, e := range story {
		all[i] = told{
			At: e.Timestamp, Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Type: e.Event.Type, ID: e.Event.ID,
			Causation: e.Event.CausationID, Correlation: e.Event.CorrelationID, Trace: topics.TraceID(e.Event), Headers: e.Headers,
		}
		if json.Valid(e.Value) {
			all[i].Data = e.Value
		}
	}
	return printJSON(c, all)
}
