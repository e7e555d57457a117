package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// sagaCmd works on the orders' sagas, through the order service's operator API.
type sagaCmd struct {
	List       sagaListCmd       `cmd:"" help:"List sagas, the oldest first: those that have not ended, unless --state says otherwise."`
	Show       sagaShowCmd       `cmd:"" help:"Show what a saga has done, what is left, since when it waits, and what you may do."`
	Retry      sagaRetryCmd      `cmd:"" help:"Have a saga send the command that it waits for once more."`
	Skip       sagaSkipCmd       `cmd:"" help:"Have a saga go on without undoing a step, whose effect you have seen to or let stand."`
	Compensate sagaCompensateCmd `cmd:"" help:"Have a saga undo everything that it did."`
}

// sagaScope is where the sagas are and how they are printed.
type sagaScope struct {
	services `embed:"" group:"addresses"`
	JSON     bool `name:"json" help:"Print JSON for programs."`
}

type sagaListCmd struct {
	sagaScope `embed:""`
	State     []string      `help:"Only those in one of these states: ${enum}." enum:"open,all,running,compensating,compensation_failed,completed,compensated" default:"open"`
	Step      string        `help:"Only those that wait for this step's answer."`
	Error     string        `help:"Only those that went wrong for this reason, such as payment_declined."`
	Older     time.Duration `help:"Only those that began so long ago or longer, such as 10m."`
	Limit     int           `help:"Most sagas shown." default:"100"`
}

func (l sagaListCmd) filter(now time.Time) (f orderapi.ListSagasParams, err error) {
	if l.Limit < 1 {
		return f, fmt.Errorf("--limit is %d, must be 1 or more", l.Limit)
	}
	if l.Older < 0 {
		return f, fmt.Errorf("--older is %s, must not be negative", l.Older)
	}
	var states []orderapi.SagaStatus
	for _, state := range l.State {
		switch state {
		case "open":
			states = append(states, orderapi.SagaStatusRunning, orderapi.SagaStatusCompensating, orderapi.SagaStatusCompensationFailed)
		case "all":
			states = append(states, orderapi.SagaStatusRunning, orderapi.SagaStatusCompensating, orderapi.SagaStatusCompensationFailed,
				orderapi.SagaStatusCompleted, orderapi.SagaStatusCompensated)
		default:
			states = append(states, orderapi.SagaStatus(state))
		}
	}
	f.State = &states
	if l.Step != "" {
		f.Step = &l.Step
	}
	if l.Error != "" {
		f.Error = &l.Error
	}
	if l.Older > 0 {
		before := now.Add(-l.Older).UTC()
		f.StartedBefore = &before
	}
	return f, nil
}

// Run prints a table or JSON.
func (l sagaListCmd) Run(ctx context.Context, c console) error {
	now := time.Now()
	f, err := l.filter(now)
	if err != nil {
		return err
	}
	system, err := l.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all, more, err := system.Sagas(ctx, f, l.Limit)
	if err != nil {
		return err
	}
	if l.JSON {
		return printJSON(c, all)
	}
	if len(all) == 0 {
		say(c.out, "There are no sagas like that.\n")
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "ID\tSTATE\tWAITS FOR\tSINCE\tAGE\tERROR\n")
	for _, s := range all {
		waits, since := "-", "-"
		if w := s.WaitsFor; w != nil {
			waits, since = fmt.Sprintf("%s %s #%d", w.Command, w.Step, w.Attempt), ago(now, w.Since)
		}
		say(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.SagaID, s.State, waits, since, ago(now, s.StartedAt), terminal.Clip(wrong(s), 100))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	footer := fmt.Sprintf("%d sagas.", len(all))
	if more {
		footer = fmt.Sprintf("%d sagas, and there are more: raise --limit, or narrow down.", len(all))
	}
	say(c.out, "%s\n", terminal.For(c.out).Faint(footer))
	return nil
}

// ago is how long ago something was, to the second.
func ago(now, at time.Time) string { return max(0, now.Sub(at)).Round(time.Second).String() }

// wrong is what went wrong with a saga: why it is stuck, or else why it is undone.
func wrong(s orderapi.Saga) string {
	switch {
	case s.Failure != nil && s.Trouble != nil:
		return s.Failure.Code + ": " + *s.Trouble
	case s.Trouble != nil:
		return *s.Trouble
	case s.Failure != nil:
		return because(s.Failure)
	}
	return ""
}

func because(f *orderapi.Failure) string {
	if f.Detail != nil {
		return f.Code + " (" + *f.Detail + ")"
	}
	return f.Code
}

type sagaShowCmd struct {
	sagaScope `embed:""`
	ID        string `arg:"" help:"The saga, which has its order's id."`
}

// Run prints everything that is known of one saga.
func (s sagaShowCmd) Run(ctx context.Context, c console) error {
	system, err := s.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	d, err := system.Saga(ctx, s.ID)
	if err != nil {
		return err
	}
	beside := nowhere()
	for _, service := range client.Services() {
		beside.askParked(ctx, system, service, s.ID)
	}
	if s.JSON {
		return printJSON(c, struct {
			orderapi.SagaDetail
			elsewhere
		}{d, beside})
	}
	if err := printSaga(c, d, time.Now()); err != nil {
		return err
	}
	beside.say(c, time.Now())
	return nil
}

func printSaga(c console, d orderapi.SagaDetail, now time.Time) error {
	style := terminal.For(c.out)
	say(c.out, "%s\n", style.Bold(fmt.Sprintf("Saga %s is %s, version %d", d.Saga.SagaID, d.Saga.State, d.Saga.Version)))
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "  plan\t%s version %d, begun %s (%s ago)\n", d.Saga.Definition, d.Saga.DefinitionVersion, d.Saga.StartedAt.Format(time.RFC3339), ago(now, d.Saga.StartedAt))
	if text := wrong(d.Saga); text != "" {
		say(table, "  went wrong\t%s\n", text)
	}
	for i, done := range d.Done {
		say(table, "  %s\t%s %s, %s\n", once(i, "done"), done.Command, done.Step, done.At.Format(time.RFC3339))
	}
	for i, left := range d.Left {
		say(table, "  %s\t%s %s\n", once(i, "left"), left.Command, left.Step)
	}
	if w := d.Saga.WaitsFor; w != nil {
		until := "given up"
		if w.Until != nil {
			until = "until " + w.Until.Format(time.RFC3339)
		}
		say(table, "  waits for\t%s %s, sent %d times since %s (%s ago), %s\n", w.Command, w.Step, w.Attempt, w.Since.Format(time.RFC3339), ago(now, w.Since), until)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(d.May) == 0 {
		say(c.out, "\nThere is nothing that you may do with it now.\n")
	} else {
		say(c.out, "\nYou may:\n")
	}
	for _, may := range d.May {
		comes := []string{fmt.Sprintf("it is %s then", may.State)}
		for _, command := range may.Sends {
			comes = append(comes, fmt.Sprintf("sends %s %s", command.Command, command.Step))
		}
		step := ""
		if may.Verb == orderapi.SagaVerbVerbSkip && may.Step != nil {
			step = " --step=" + *may.Step
		}
		say(c.out, "  orderctl saga %s %s%s --version=%d --reason=…\n      %s\n", may.Verb, d.Saga.SagaID, step, d.Saga.Version,
			style.Faint(strings.Join(comes, ", ")))
	}
	say(c.out, "\n")
	for _, e := range d.Entries {
		say(c.out, "  +%.3f s  %s\n", e.At.Sub(d.Saga.StartedAt).Seconds(), e.Text)
	}
	return nil
}

// once is a row's name in the first row of its kind.
func once(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

// sagaVerb is what the verbs have in common.
type sagaVerb struct {
	sagaScope `embed:""`
	ID        string `arg:"" help:"The saga, which has its order's id."`
	Version   int64  `help:"The saga's version as you have seen it ('saga show' tells it); if it has changed since, nothing is done." required:""`
	Actor     string `help:"Who asks." env:"USER" required:""`
	Reason    string `help:"Why; it is written down in the saga's journal." required:""`
}

// do presses a verb and prints what the saga is then.
func (v sagaVerb) do(c console, press func(s *client.System, by client.By) (orderapi.Saga, error)) error {
	if v.Version < 1 {
		return fmt.Errorf("--version is %d, must be 1 or more: 'orderctl saga show %s' tells it", v.Version, v.ID)
	}
	system, err := v.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	s, err := press(system, client.By{Actor: v.Actor, Reason: v.Reason})
	if err != nil {
		return err
	}
	if v.JSON {
		return printJSON(c, s)
	}
	waits := ""
	if s.WaitsFor != nil {
		waits = fmt.Sprintf(", and waits for the answer to %s %s #%d", s.WaitsFor.Command, s.WaitsFor.Step, s.WaitsFor.Attempt)
	}
	say(c.out, "Saga %s is %s, version %d%s.\n", s.SagaID, s.State, s.Version, waits)
	return nil
}

type sagaRetryCmd struct {
	sagaVerb `embed:""`
}

// Run retries.
func (r sagaRetryCmd) Run(ctx context.Context, c console) error {
	return r.do(c, func(s *client.System, by client.By) (orderapi.Saga, error) {
		return s.RetrySaga(ctx, r.ID, r.Version, by)
	})
}

type sagaSkipCmd struct {
	sagaVerb `embed:""`
	Step     string `help:"The step that is being undone." required:""`
}

// Run skips a step.
func (k sagaSkipCmd) Run(ctx context.Context, c console) error {
	return k.do(c, func(s *client.System, by client.By) (orderapi.Saga, error) {
		return s.SkipSagaStep(ctx, k.ID, k.Step, k.Version, by)
	})
}

type sagaCompensateCmd struct {
	sagaVerb `embed:""`
}

// Run compensates.
func (k sagaCompensateCmd) Run(ctx context.Context, c console) error {
	return k.do(c, func(s *client.System, by client.By) (orderapi.Saga, error) {
		return s.CompensateSaga(ctx, k.ID, k.Version, by)
	})
}
