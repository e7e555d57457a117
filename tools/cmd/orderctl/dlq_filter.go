package main

import (
	"fmt"
	"time"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
)

// dlqFilter selects dead letters; what is empty selects all.
type dlqFilter struct {
	Group     string `help:"Only letters of this consumer group." group:"which letters"`
	Topic     string `help:"Only letters whose record came from this topic." group:"which letters"`
	EventType string `help:"Only letters of this message type." group:"which letters"`
	ErrorType string `help:"Only letters with such an error: permanent, transient or undecodable." enum:",permanent,transient,undecodable" default:"" group:"which letters"`
	Cause     string `help:"Only letters with exactly this cause, as 'dlq causes' shows it." group:"which letters"`
	Key       string `help:"Only letters with exactly this key: an order's id." group:"which letters"`
	Text      string `help:"Only letters with this text in their error's message; bodies are not searched." group:"which letters"`
	Since     string `help:"Only letters that failed last at this time (2026-11-21T03:00:00Z) or that long ago (2h), or later." group:"which letters"`
	Until     string `help:"Only letters that failed last before this time, or longer ago than that." group:"which letters"`
}

// filter is the filter in the API's words; the state may be empty or all.
func (f dlqFilter) filter(state string) (letters.ListCausesParams, error) {
	p := letters.ListCausesParams{
		Group: set(f.Group), Topic: set(f.Topic), EventType: set(f.EventType), ErrorType: set(letters.ErrorType(f.ErrorType)),
		Cause: set(f.Cause), Key: set(f.Key), Text: set(f.Text),
	}
	if state != "all" {
		p.State = set(letters.StateFilter(state))
	}
	var err error
	if p.Since, err = instantOf("since", f.Since, time.Now()); err == nil {
		p.Until, err = instantOf("until", f.Until, time.Now())
	}
	return p, err
}

// set leaves out what is empty.
func set[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}

func instantOf(flag, text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no bound
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return &at, nil
	}
	ago, err := time.ParseDuration(text)
	if err != nil || ago < 0 {
		return nil, fmt.Errorf("--%s is %q, must be a time such as 2026-11-21T03:00:00Z or how long ago that was, such as 90m", flag, text)
	}
	at := now.Add(-ago).UTC()
	return &at, nil
}

func listed(f letters.ListCausesParams) letters.ListDeadLettersParams {
	return letters.ListDeadLettersParams{
		State: f.State, Group: f.Group, Topic: f.Topic, EventType: f.EventType, ErrorType: f.ErrorType,
		Cause: f.Cause, Key: f.Key, Text: f.Text, Since: f.Since, Until: f.Until,
	}
}

func selected(f letters.ListCausesParams) letters.Filter {
	s := letters.Filter{
		Group: f.Group, Topic: f.Topic, EventType: f.EventType, ErrorType: f.ErrorType,
		Cause: f.Cause, Key: f.Key, Text: f.Text, Since: f.Since, Until: f.Until,
	}
	if f.State != nil {
		s.State = set(letters.FilterState(*f.State))
	}
	return s
}
