package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

type orderCmd struct {
	Timeline timelineCmd `cmd:"" help:"Show an order's request, its saga's steps and attempts, its dead letters and what was done with them, and what its customer was told, in one list."`
}

type timelineCmd struct {
	services `embed:"" group:"addresses"`
	JSON     bool   `name:"json" help:"Print JSON for programs."`
	ID       string `arg:"" help:"The order."`
}

// joinTimeout bounds how long one service is asked for its part.
const joinTimeout = 5 * time.Second

// Bounds of what is joined: dead letters of a service, and verbs on each of them, the last ones.
const (
	maxJoinedLetters = 100
	maxJoinedVerbs   = 100
)

// moment is one thing that happened to an order.
type moment struct {
	At    time.Time `json:"at"`
	From  string    `json:"from"` // the service that knows it
	Kind  string    `json:"kind"`
	Text  string    `json:"text"`
	Cause string    `json:"cause,omitempty"`
}

// joined is what is known of an order.
type joined struct {
	orderapi.Timeline
	Moments []moment `json:"moments"`
	elsewhere
}

// Run prints what the order service tells, joined with what the other services know of the order.
func (t timelineCmd) Run(ctx context.Context, c console) error {
	system, err := t.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	j, err := join(ctx, system, t.ID)
	if err != nil {
		return err
	}
	if t.JSON {
		return printJSON(c, j)
	}
	return j.print(c)
}

// join asks each service for its part. Without the order service there is no timeline; the others may be away.
func join(ctx context.Context, system *client.System, id string) (joined, error) {
	timeline, err := system.Timeline(ctx, id)
	if err != nil {
		return joined{}, err
	}
	o, err := system.Order(ctx, id)
	if err != nil {
		return joined{}, err
	}
	j := joined{Timeline: timeline, elsewhere: nowhere()}
	for _, e := range timeline.Entries {
		cause := ""
		if e.Cause != nil {
			cause = *e.Cause
		}
		j.Moments = append(j.Moments, moment{At: e.At, From: "order", Kind: e.Kind, Text: e.Text, Cause: cause})
	}
	ask := func(what string, part func(ctx context.Context) ([]moment, error)) {
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		moments, err := part(ctx)
		if err != nil {
			j.Missing = append(j.Missing, fmt.Sprintf("%s: %s", what, err))
		}
		j.Moments = append(j.Moments, moments...)
	}
	for _, service := range client.Services() {
		ask("dead letters of "+service, func(ctx context.Context) ([]moment, error) { return j.letters(ctx, system, service, id) })
		j.askParked(ctx, system, service, id)
	}
	ask("notifications", func(ctx context.Context) ([]moment, error) {
		told, err := system.NotificationsOf(ctx, o.CustomerID, id, o.CreatedAt)
		moments := make([]moment, len(told))
		for i, n := range told {
			moments[i] = moment{At: n.At, From: "notification", Kind: "notification", Text: "customer told: " + n.Title, Cause: n.Kind}
		}
		return moments, err
	})
	slices.SortStableFunc(j.Moments, func(a, b moment) int { return a.At.Compare(b.At) })
	return j, ctx.Err()
}

// letters are the moments of a service's dead letters with a key. Where a trail cannot be read there is an error too, and
// no more trails are asked for.
func (j *joined) letters(ctx context.Context, system *client.System, service, key string) (moments []moment, err error) {
	all, more, err := system.ListLetters(ctx, service, letters.ListDeadLettersParams{Key: &key}, maxJoinedLetters)
	if more {
		j.Missing = append(j.Missing, fmt.Sprintf("dead letters of %s but for the last %d: 'orderctl dlq list --service=%s --key=%s --limit=…' has them",
			service, len(all), service, key))
	}
	for _, l := range all {
		var trail []letters.AuditEntry
		if err == nil {
			trail, more, err = system.Audit(ctx, service, l.ID, "", maxJoinedVerbs)
			if more {
				j.Missing = append(j.Missing, fmt.Sprintf("verbs on dead letter %s but for the last %d: 'orderctl dlq audit --service=%s --letter=%s --limit=…' has them",
					l.ID, len(trail), service, l.ID))
			}
		}
		moments = append(moments, ofLetter(service, l, trail)...)
	}
	return moments, err
}

// ofLetter is what a dead letter and its trail, its last verb first, tell: each time that its message was given up, as far
// as that is known, each verb, and what became of it. The letter has its last failure, and each verb that before it.
func ofLetter(service string, l letters.Letter, trail []letters.AuditEntry) (moments []moment) {
	add := func(at time.Time, kind, cause, format string, args ...any) {
		moments = append(moments, moment{At: at, From: service, Kind: kind, Text: fmt.Sprintf(format, args...), Cause: cause})
	}
	failed := func(at time.Time, cause string, retries int, times string) {
		add(at, "dead_letter", cause, "%s given up after %d retries%s: dead letter %s", l.EventType, retries, times, l.ID)
	}
	known, before := 1, time.Time{}
	for _, e := range slices.Backward(trail) {
		if at := e.FailedAt; at != nil && at.After(before) && at.Before(l.FailedAt) {
			failed(*at, value(e.Error), value(e.Retries), "")
			known, before = known+1, *at
		}
		add(e.At, "dead_letter_"+string(e.Verb), fmt.Sprintf("operator %s: %s%s", e.Actor, e.Reason, about(e)), "%s of dead letter %s", e.Verb, l.ID)
	}
	times := ""
	if l.Failures > 1 {
		times = fmt.Sprintf(", the %d. time", l.Failures)
	}
	if l.Failures > known {
		times += fmt.Sprintf(" (%d of them not in this list)", l.Failures-known)
	}
	failed(l.FailedAt, fmt.Sprintf("%s: %s", l.ErrorType, l.Error), l.Retries, times)
	if l.State == letters.StateRedriven || l.State == letters.StateDiscarded && len(trail) == 0 {
		by := ""
		if l.Actor != "" {
			by = fmt.Sprintf("operator %s: %s", l.Actor, l.Reason)
		}
		add(l.UpdatedAt, "dead_letter_"+string(l.State), by, "dead letter %s is %s", l.ID, l.State)
	}
	return moments
}

func (j joined) print(c console) error {
	why := ""
	if j.Failure != nil {
		why = ": " + because(j.Failure)
	}
	say(c.out, "%s\n", terminal.For(c.out).Bold(fmt.Sprintf("Order %s is %s, its saga %s%s", j.OrderID, j.State, j.Status, why)))
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "\nSTEP\tSTATUS\tATTEMPTS\tUNDONE\tTOOK\n")
	for _, s := range j.Steps {
		status := string(s.Status)
		if s.UndoSkipped != nil && *s.UndoSkipped {
			status = "undo skipped"
		}
		say(table, "%s\t%s\t%d\t%d\t%s\n", s.Name, status, s.Attempts, s.UndoAttempts, took(s.StartedAt, s.EndedAt))
	}
	say(table, "\nAFTER\tFROM\tWHAT\tBECAUSE OF\n")
	for _, m := range j.Moments {
		say(table, "+%.3f s\t%s\t%s\t%s\n", m.At.Sub(j.Moments[0].At).Seconds(), m.From, m.Text, terminal.Clip(m.Cause, 80))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	j.say(c, time.Now())
	return nil
}

func took(from, to *time.Time) string {
	if from == nil || to == nil {
		return ""
	}
	return to.Sub(*from).Round(time.Millisecond).String()
}
