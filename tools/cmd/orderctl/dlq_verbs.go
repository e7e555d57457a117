package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
)

// dlqBy is who asks, and why.
type dlqBy struct {
	Actor  string `help:"Who asks." env:"USER" required:""`
	Reason string `help:"Why; it is written down." required:""`
}

func (b dlqBy) by() client.By { return client.By{Actor: b.Actor, Reason: b.Reason} }

// dlqVerb is what redrive and discard have in common.
type dlqVerb struct {
	dlqScope  `embed:""`
	dlqFilter `embed:""`
	dlqBy     `embed:""`
	State     string   `help:"Only letters in this state: ${enum}; open is both." enum:"open,waiting,failed_again" default:"open" group:"which letters"`
	All       bool     `help:"All letters that wait, of the service named by --service or of all." group:"which letters"`
	DryRun    bool     `help:"Only show what would be taken." group:"how"`
	Rate      int      `help:"The most letters a second; 0 is no limit." group:"how"`
	Max       int      `help:"Refuse to begin if more letters match." default:"1000000" group:"how"`
	Wait      bool     `help:"Follow the job until it is over." default:"true" negatable:"" group:"how"`
	IDs       []string `arg:"" optional:"" name:"id" help:"The dead letters, as topic-partition-offset."`
}

// run does the verb to the letters that are named, one by one, or begins a job for those that a filter selects.
func (d dlqVerb) run(ctx context.Context, c console, request letters.JobRequest,
	verb func(s *client.System, ctx context.Context, service, id string, by client.By) (letters.Letter, error),
) error {
	filtered := d.dlqFilter != dlqFilter{} || d.State != "open"
	switch {
	case len(d.IDs) == 0 && !filtered && !d.All:
		return fmt.Errorf("name the dead letters to %s, select them by --cause, --topic and the like, or say --all", request.Verb)
	case len(d.IDs) > 0 && (filtered || d.All):
		return errors.New("name dead letters or select them, not both")
	}
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	if len(d.IDs) > 0 {
		return d.each(ctx, c, system, verb)
	}
	f, err := d.filter(d.State)
	if err != nil {
		return err
	}
	request.Filter, request.Actor, request.Reason = selected(f), d.Actor, d.Reason
	request.Rate, request.Max = &d.Rate, &d.Max
	return d.job(ctx, c, system, request)
}

// each does a verb to each letter and prints what became of them. What fails is named, and the others are done.
func (d dlqVerb) each(ctx context.Context, c console, system *client.System,
	verb func(s *client.System, ctx context.Context, service, id string, by client.By) (letters.Letter, error),
) error {
	var errs []error
	done := []found{}
	for _, id := range d.IDs {
		service, detail, err := d.owner(ctx, system, id)
		if err != nil {
			return err
		}
		done = append(done, found{service, brief(detail)})
	}
	if d.DryRun {
		return d.print(c, done, false)
	}
	chosen := done
	done = []found{}
	for _, l := range chosen {
		after, err := verb(system, ctx, l.Service, l.ID, d.by())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, found{l.Service, after})
	}
	if len(done) > 0 {
		errs = append(errs, d.print(c, done, false))
	}
	return errors.Join(errs...)
}

func brief(l letters.LetterDetail) letters.Letter {
	return letters.Letter{
		ID: l.ID, Group: l.Group, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: l.Key, EventID: l.EventID, EventType: l.EventType,
		ErrorType: l.ErrorType, Error: l.Error, Cause: l.Cause, Retries: l.Retries, Failures: l.Failures, FailedAt: l.FailedAt, State: l.State,
		UpdatedAt: l.UpdatedAt, Actor: l.Actor, Reason: l.Reason, Job: l.Job, Edits: l.Edits, Omitted: l.Omitted,
	}
}

type dlqRedriveCmd struct {
	dlqVerb     `embed:""`
	Canary      int `help:"Send so many first, and the rest only when every one was handled." group:"how"`
	MaxFailures int `help:"Stop when more letters than that have failed again." default:"10" group:"how"`
}

// Run redrives the letters named, or begins a job for those selected.
func (d dlqRedriveCmd) Run(ctx context.Context, c console) error {
	if len(d.IDs) > 0 && (d.Canary > 0 || d.Rate > 0) {
		return errors.New("--canary and --rate are for letters that are selected, by --cause and the like, not for named ones")
	}
	return d.run(ctx, c, letters.JobRequest{Verb: letters.JobVerbRedrive, Canary: &d.Canary, MaxFailures: &d.MaxFailures}, (*client.System).Redrive)
}

type dlqDiscardCmd struct {
	dlqVerb `embed:""`
}

// Run discards the letters named, or begins a job for those selected.
func (d dlqDiscardCmd) Run(ctx context.Context, c console) error {
	return d.run(ctx, c, letters.JobRequest{Verb: letters.JobVerbDiscard}, (*client.System).Discard)
}

type dlqEditCmd struct {
	dlqScope `embed:""`
	dlqBy    `embed:""`
	ID       string `arg:"" help:"The dead letter, as topic-partition-offset."`
	File     string `help:"The file with the new body; '-' is standard input." xor:"body" required:""`
	Value    string `help:"The new body." xor:"body" required:""`
}

// Run puts the new body there.
func (d dlqEditCmd) Run(ctx context.Context, c console) error {
	value, err := []byte(d.Value), error(nil)
	switch d.File {
	case "":
	case "-":
		value, err = readAll(os.Stdin)
	default:
		value, err = os.ReadFile(d.File)
	}
	if err != nil {
		return err
	}
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	service, _, err := d.owner(ctx, system, d.ID)
	if err != nil {
		return err
	}
	l, err := system.Edit(ctx, service, d.ID, value, d.by())
	if err != nil {
		return err
	}
	if d.JSON {
		return printJSON(c, struct {
			Service string `json:"service"`
			letters.LetterDetail
		}{service, l})
	}
	say(c.out, "%s %s has a new body, and is %s. Redrive it; 'dlq audit --letter=%s' has the old one.\n", service, l.ID, l.State, l.ID)
	return nil
}
