package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	parked "github.com/orderflow/orderflow/pkg/parking/rest"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// parkedCmd shows the keys whose messages wait in the services' databases, through their operator API.
type parkedCmd struct {
	List parkedListCmd `cmd:"" help:"List keys whose messages wait, those that wait longest first, and what each waits for."`
	Show parkedShowCmd `cmd:"" help:"Show what waits of a key, why, and what you may do."`
}

// parkedKey is a key that waits, and at which service.
type parkedKey struct {
	Service string `json:"service"`
	parked.Key
}

// because says what the key waits for.
func (k parkedKey) because(now time.Time) string {
	switch {
	case k.Letter != nil:
		return "dead letter " + *k.Letter
	case k.NextAttempt != nil && k.NextAttempt.After(now):
		return fmt.Sprintf("attempt %d in %s", k.Attempts+1, k.NextAttempt.Sub(now).Round(time.Second))
	case k.NextAttempt != nil:
		return fmt.Sprintf("attempt %d, which is due", k.Attempts+1)
	}
	return "its turn"
}

// place is where the key's messages came from.
func (k parkedKey) place() string { return fmt.Sprintf("%s-%d", k.Topic, k.Partition) }

type parkedListCmd struct {
	scope `embed:""`
	Group string `help:"Only keys of this consumer group."`
	Topic string `help:"Only keys whose messages came from this topic."`
	Key   string `help:"Only exactly this key: an order's id."`
	State string `help:"Only keys in this state: ${enum}. Blocked ones wait for a dead letter and so for you; the others go on by themselves." enum:"all,blocked,retrying,queued" default:"all"`
	Limit int    `help:"Most keys shown." default:"100"`
}

// Run prints a table or JSON.
func (l parkedListCmd) Run(ctx context.Context, c console) error {
	if l.Limit < 1 {
		return fmt.Errorf("--limit is %d, must be at least 1", l.Limit)
	}
	f := parked.ListParkedParams{Group: set(l.Group), Topic: set(l.Topic), Key: set(l.Key)}
	if l.State != "all" {
		f.State = set(parked.State(l.State))
	}
	system, err := l.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all, more, err := ofEach(l.names(), l.Limit, func(service string) (some []parkedKey, more bool, err error) {
		keys, more, err := system.ListParked(ctx, service, f, l.Limit)
		for _, k := range keys {
			some = append(some, parkedKey{service, k})
		}
		return some, more, err
	}, func(a, b parkedKey) int { return a.Since.Compare(b.Since) })
	if err != nil {
		return err
	}
	if l.JSON {
		return printJSON(c, all)
	}
	return printParked(c, all, more, time.Now())
}

func printParked(c console, all []parkedKey, more bool, now time.Time) error {
	if len(all) == 0 {
		say(c.out, "No keys like that wait.\n")
		return nil
	}
	style, blocked := terminal.For(c.out), false
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "SERVICE\tKEY\tSTATE\tFROM\tMESSAGES\tBYTES\tSINCE\tWAITS FOR\n")
	for _, k := range all {
		blocked = blocked || k.Letter != nil
		say(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", k.Service, terminal.Clip(k.Key.Key, 40), k.State, k.place(), k.Messages, k.Bytes, ago(now, k.Since), k.because(now))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	footer := fmt.Sprintf("%d keys.", len(all))
	if more {
		footer = fmt.Sprintf("The %d that wait longest; there are more: narrow the list, or raise --limit.", len(all))
	}
	say(c.out, "%s\n", style.Faint(footer))
	if blocked {
		say(c.out, "Who is blocked goes on when its dead letter was handled or is discarded: 'orderctl parked show KEY' says how.\n")
	}
	return nil
}

type parkedShowCmd struct {
	scope `embed:""`
	Key   string `arg:"" help:"The key, such as an order's id; or one of its messages, as topic-partition-offset."`
}

// parkedDetail is a key that waits, at which service, and the dead letter that it waits for, if that is listed already.
type parkedDetail struct {
	Service string `json:"service"`
	parked.KeyDetail
	DeadLetter *letters.LetterDetail `json:"dead_letter,omitempty"`
}

// Run prints everything that is known of a key that waits.
func (s parkedShowCmd) Run(ctx context.Context, c console) error {
	system, err := s.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all := []parkedDetail{}
	for _, service := range s.names() {
		some, err := s.at(ctx, system, service)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing of key %s waits at %s: 'orderctl parked list' shows what does", s.Key, strings.Join(s.names(), ", "))
	}
	if s.JSON {
		return printJSON(c, all)
	}
	for i, d := range all {
		if i > 0 {
			say(c.out, "\n")
		}
		if err := d.print(c, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// at finds what waits at a service: of the key, or else of the key that has such a message.
func (s parkedShowCmd) at(ctx context.Context, system *client.System, service string) ([]parkedDetail, error) {
	keys, err := parkedAt(ctx, system, service, s.Key)
	if err != nil {
		return nil, err
	}
	ids := []string{s.Key}
	if len(keys) > 0 {
		ids = ids[:0]
		for _, k := range keys {
			ids = append(ids, k.First)
		}
	}
	var all []parkedDetail
	for _, id := range ids {
		k, err := system.Parked(ctx, service, id)
		if missing(err) {
			continue // it has gone on meanwhile
		}
		if err != nil {
			return nil, err
		}
		d := parkedDetail{Service: service, KeyDetail: k}
		if k.Letter != nil {
			l, err := system.Letter(ctx, service, *k.Letter)
			if err != nil && !missing(err) {
				return nil, err
			}
			if err == nil {
				d.DeadLetter = &l
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// missing tells that a service does not have what it was asked for.
func missing(err error) bool {
	var refused *client.Refused
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound
}

// maxPlaces is the most places in which one key is looked for at a service.
const maxPlaces = 100

// parkedAt is where a key waits at a service.
func parkedAt(ctx context.Context, system *client.System, service, key string) (all []parkedKey, err error) {
	keys, _, err := system.ListParked(ctx, service, parked.ListParkedParams{Key: &key}, maxPlaces)
	for _, k := range keys {
		all = append(all, parkedKey{service, k})
	}
	return all, err
}

func (d parkedDetail) print(c console, now time.Time) error {
	k := d.key()
	say(c.out, "%s\n", terminal.For(c.out).Bold(fmt.Sprintf("%s: key %s of %s is %s", d.Service, terminal.Clip(d.Key, 100), k.place(), d.State)))
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "  group\t%s\n  wait\t%d messages, %d bytes, since %s (%s ago)\n  for\t%s\n",
		d.Group, d.Messages, d.Bytes, d.Since.Format(time.RFC3339), ago(now, d.Since), k.because(now))
	if l := d.DeadLetter; l != nil {
		say(table, "  which is\t%s, %s: %s\n", l.State, l.ErrorType, terminal.Clip(l.Error, 300))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	say(c.out, "\n")
	say(table, "MESSAGE\tTYPE\tSENT\tBYTES\tATTEMPTS\n")
	for _, m := range d.Waiting {
		id := m.ID
		if m.Blocks {
			id += " (dead letter)"
		}
		say(table, "%s\t%s\t%s\t%d\t%d\n", id, terminal.Clip(m.EventType, 60), m.SentAt.UTC().Format(stamp), m.Bytes, m.Attempts)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if rest := d.Messages - len(d.Waiting); rest > 0 {
		say(c.out, "and %d more\n", rest)
	}
	say(c.out, "\n%s", d.advice())
	return nil
}

func (d parkedDetail) key() parkedKey {
	return parkedKey{d.Service, parked.Key{
		Group: d.Group, Topic: d.Topic, Partition: d.Partition, Key: d.Key, State: d.State, Messages: d.Messages, Bytes: d.Bytes,
		Since: d.Since, First: d.First, Attempts: d.Attempts, NextAttempt: d.NextAttempt, Letter: d.Letter,
	}}
}

// advice is what an operator may do about it.
func (d parkedDetail) advice() string {
	l := d.DeadLetter
	switch {
	case d.Letter == nil:
		return "There is nothing to be done: it goes on by itself, or becomes a dead letter after its last attempt.\n"
	case l == nil:
		return fmt.Sprintf("Dead letter %s is not listed yet: look again in a moment.\n", *d.Letter)
	case l.State == letters.StateRedriving:
		return "The dead letter is on its way back: the key goes on when it was handled.\n"
	}
	return fmt.Sprintf("You may:\n  orderctl dlq redrive %s --service=%s --reason=…\n      once its cause is mended; the key goes on when it was handled\n"+
		"  orderctl dlq discard %s --service=%s --reason=…\n      the key goes on without this message\n", l.ID, d.Service, l.ID, d.Service)
}

// elsewhere is what services know of an order beside what is done with it.
type elsewhere struct {
	// Parked is where messages with the order's key wait now.
	Parked []parkedKey `json:"parked"`
	// Missing are the parts that could not be had, and why.
	Missing []string `json:"missing"`
}

func nowhere() elsewhere { return elsewhere{Parked: []parkedKey{}, Missing: []string{}} }

func (e *elsewhere) askParked(ctx context.Context, system *client.System, service, key string) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	keys, err := parkedAt(ctx, system, service, key)
	if err != nil {
		e.Missing = append(e.Missing, err.Error())
	}
	e.Parked = append(e.Parked, keys...)
}

func (e elsewhere) say(c console, now time.Time) {
	style := terminal.For(c.out)
	for _, k := range e.Parked {
		say(c.out, "%s\n", style.Bad(fmt.Sprintf("Parked: at %s %d messages of %s wait for %s, since %s; 'orderctl parked show %s' says more",
			k.Service, k.Messages, k.place(), k.because(now), k.Since.Format(time.RFC3339), k.Key.Key)))
	}
	for _, missing := range e.Missing {
		say(c.out, "%s\n", style.Bad("Missing: "+missing))
	}
}
