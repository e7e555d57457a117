package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// look is the time between two looks at a job.
const look = 500 * time.Millisecond

// begun is a job and whose it is.
type begun struct {
	Service string `json:"service"`
	letters.Job
}

// previewed is what a job would take at a service.
type previewed struct {
	Service string `json:"service"`
	letters.JobPreview
}

// job shows what is selected, and begins a job at each service that has some of it.
func (d dlqVerb) job(ctx context.Context, c console, system *client.System, request letters.JobRequest) error {
	var chosen []previewed
	for _, service := range d.names() {
		p, err := system.PreviewJob(ctx, service, request)
		var refused *client.Refused
		if errors.As(err, &refused) && refused.Status == 422 && d.Service == "all" && strings.HasPrefix(refused.Detail, "no letter matches") {
			continue // others may have some
		}
		if err != nil {
			return err
		}
		chosen = append(chosen, previewed{service, p})
	}
	if len(chosen) == 0 {
		return errors.New("no letter matches that waits, at any service: 'dlq list --state=open' shows which do")
	}
	if d.DryRun && d.JSON {
		return printJSON(c, chosen)
	}
	if !d.JSON {
		if err := d.preview(c, chosen, string(request.Verb)); err != nil {
			return err
		}
	}
	if d.DryRun {
		say(c.out, "Nothing was changed: this was a dry run.\n")
		return nil
	}
	var jobs []begun
	var errs []error
	for _, p := range chosen {
		j, err := p.begin(ctx, system, request)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		jobs = append(jobs, begun{p.Service, j})
	}
	if d.Wait && len(jobs) > 0 {
		errs = append(errs, followJobs(ctx, c, system, jobs))
	}
	errs = append(errs, d.printJobs(c, jobs), stopped(jobs))
	return errors.Join(errs...)
}

// begin begins a job over what was shown: over nothing that failed after the last of it, and no more letters. What came in
// since then with an earlier time, from a clock that is behind, has the service refuse.
func (p previewed) begin(ctx context.Context, system *client.System, request letters.JobRequest) (letters.Job, error) {
	request.Max = &p.Total
	if len(p.Letters) > 0 { // the last failed comes first
		request.Filter.Until = new(p.Letters[0].FailedAt.Add(time.Microsecond)) // what PostgreSQL tells apart
	}
	j, err := system.BeginJob(ctx, p.Service, request)
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == 422 && strings.Contains(refused.Detail, "more letters match") {
		err = fmt.Errorf("%s: more letters match now than were shown; nothing was begun there, look at them and press again: %w", p.Service, err)
	}
	return j, err
}

func (d dlqVerb) preview(c console, chosen []previewed, verb string) error {
	total := 0
	var causes []caused
	for _, p := range chosen {
		total += p.Total
		for _, n := range p.Causes {
			causes = append(causes, caused{p.Service, n})
		}
	}
	slices.SortStableFunc(causes, func(a, b caused) int { return b.Letters - a.Letters })
	say(c.out, "%s\n", terminal.For(c.out).Bold(fmt.Sprintf("%d dead letters to %s, by cause:", total, verb)))
	return printCauses(c, causes)
}

// followJobs shows progress until all jobs are over, and brings them up to date.
func followJobs(ctx context.Context, c console, system *client.System, jobs []begun) error {
	out := c.err // results are for out
	bar := newBar(out, "letters done")
	defer bar.close()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		done, total, failed, over, away := 0, 0, 0, true, ""
		for i := range jobs {
			j := &jobs[i]
			fresh, err := system.Job(ctx, j.Service, j.ID)
			var refused *client.Refused
			switch {
			case err == nil:
				j.Job = fresh
			case ctx.Err() != nil:
				return goesOn(jobs)
			case errors.As(err, &refused) && refused.Status < 500:
				return err
			default: // the job is in its database, and goes on when the service is back
				away = fmt.Sprintf("; %s does not answer", j.Service)
			}
			done += j.Settled + j.Failed + j.LookedAt - j.Taken
			total += j.Total
			failed += j.Failed
			over = over && j.EndedAt != nil
		}
		bar.what = fmt.Sprintf("letters done, %d failed again%s", failed, away)
		bar.show(int64(done), int64(total))
		if over {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return goesOn(jobs)
		}
	}
}

func goesOn(jobs []begun) error {
	var how []string
	for _, j := range jobs {
		if j.EndedAt == nil {
			how = append(how, fmt.Sprintf("orderctl dlq stop %s --service=%s --reason=…", j.ID, j.Service))
		}
	}
	return fmt.Errorf("the job goes on in the service; to stop it: %s", strings.Join(how, "; "))
}

// stopped is an error when a job did not do all that it was to do.
func stopped(jobs []begun) error {
	var errs []error
	for _, j := range jobs {
		if j.State == letters.JobStateStopped {
			errs = append(errs, fmt.Errorf("job %s of %s was stopped: %s", j.ID, j.Service, j.Detail))
		}
	}
	return errors.Join(errs...)
}

func (s dlqScope) printJobs(c console, jobs []begun) error {
	if s.JSON {
		return printJSON(c, jobs)
	}
	if len(jobs) == 0 {
		say(c.out, "There are no jobs.\n")
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "SERVICE\tJOB\tVERB\tSTATE\tLETTERS\tDONE\tFAILED AGAIN\tUNDER WAY\tLEFT\tBEGUN\tBY\tREASON\n")
	for _, j := range jobs {
		say(table, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", j.Service, j.ID, j.Verb, j.State, j.Total, j.Settled, j.Failed,
			j.Taken-j.Settled-j.Failed, j.Total-j.LookedAt, j.CreatedAt.UTC().Format(stamp), j.Actor, terminal.Clip(j.Reason, 40))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, j := range jobs {
		if settled := j.LookedAt - j.Taken; settled > 0 {
			say(c.out, "%s: %d of the letters had been redriven or discarded otherwise meanwhile.\n", j.ID, settled)
		}
		if j.Detail != "" {
			say(c.out, "%s: %s\n", j.ID, j.Detail)
		}
	}
	return nil
}

type dlqJobsCmd struct {
	dlqScope `embed:""`
	Limit    int `help:"The most jobs of a service." default:"10"`
}

// Run prints a table or JSON.
func (d dlqJobsCmd) Run(ctx context.Context, c console) error {
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	all := []begun{}
	for _, service := range d.names() {
		some, err := system.Jobs(ctx, service, d.Limit)
		if err != nil {
			return err
		}
		for _, j := range some {
			all = append(all, begun{service, j})
		}
	}
	slices.SortStableFunc(all, func(a, b begun) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return d.printJobs(c, all)
}

// dlqJob names a job.
type dlqJob struct {
	dlqScope `embed:""`
	Job      string `arg:"" help:"The job, as 'dlq jobs' shows it."`
}

// open connects, and finds whose job it is.
func (d dlqJob) open(ctx context.Context) (*client.System, begun, error) {
	system, err := d.connect()
	if err != nil {
		return nil, begun{}, err
	}
	j, err := d.find(ctx, system)
	if err != nil {
		system.Close()
		return nil, begun{}, err
	}
	return system, j, nil
}

func (d dlqJob) find(ctx context.Context, system *client.System) (begun, error) {
	for _, service := range d.names() {
		j, err := system.Job(ctx, service, d.Job)
		var refused *client.Refused
		switch {
		case errors.As(err, &refused) && refused.Status == 404:
		case err != nil:
			return begun{}, err
		default:
			return begun{service, j}, nil
		}
	}
	return begun{}, fmt.Errorf("there is no job %s at %s", d.Job, strings.Join(d.names(), ", "))
}

type dlqFollowCmd struct {
	dlqJob `embed:""`
}

// Run waits until the job is over.
func (d dlqFollowCmd) Run(ctx context.Context, c console) error {
	system, j, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer system.Close()
	jobs := []begun{j}
	return errors.Join(followJobs(ctx, c, system, jobs), d.printJobs(c, jobs), stopped(jobs))
}

type dlqStopCmd struct {
	dlqJob `embed:""`
	dlqBy  `embed:""`
}

// Run stops the job.
func (d dlqStopCmd) Run(ctx context.Context, c console) error {
	system, j, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer system.Close()
	if j.Job, err = system.StopJob(ctx, j.Service, j.ID, d.by()); err != nil {
		return err
	}
	return d.printJobs(c, []begun{j})
}

// auditShown is how much of its trail is shown with a letter.
const auditShown = 20

type dlqAuditCmd struct {
	dlqScope `embed:""`
	Letter   string `help:"Only what was done to this letter."`
	Job      string `help:"Only this job, with the letters that it took."`
	Entry    int64  `help:"Show the bytes that this entry, an edit of the service named by --service, replaced."`
	Limit    int    `help:"The most entries of a service, up to 500." default:"50"`
}

// entry is one of the audit trail and whose it is.
type entry struct {
	Service string `json:"service"`
	letters.AuditEntry
}

// Run prints a table or JSON, or the old bytes of one entry.
func (d dlqAuditCmd) Run(ctx context.Context, c console) error {
	system, err := d.connect()
	if err != nil {
		return err
	}
	defer system.Close()
	if d.Entry != 0 {
		return d.before(ctx, c, system)
	}
	all := []entry{}
	for _, service := range d.names() {
		some, _, err := system.Audit(ctx, service, d.Letter, d.Job, d.Limit)
		if err != nil {
			return err
		}
		for _, e := range some {
			all = append(all, entry{service, e})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return b.At.Compare(a.At) })
	if d.JSON {
		return printJSON(c, all)
	}
	if len(all) == 0 {
		say(c.out, "Nothing like that was done.\n")
		return nil
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "AT\tWHO\tVERB\tSERVICE\tENTRY\tLETTER OR JOB\tREASON\n")
	for _, e := range all {
		what := cmp.Or(value(e.Letter), value(e.Job))
		say(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.At.UTC().Format(stamp), e.Actor, e.Verb, e.Service, e.Seq, what, terminal.Clip(e.Reason+about(e.AuditEntry), 120))
	}
	return table.Flush()
}

func (d dlqAuditCmd) before(ctx context.Context, c console, system *client.System) error {
	if d.Service == "all" {
		return errors.New("--entry needs --service: each service numbers its own entries")
	}
	e, err := system.AuditEntry(ctx, d.Service, d.Entry)
	if err != nil {
		return err
	}
	if d.JSON {
		return printJSON(c, entry{d.Service, e})
	}
	if e.BeforeBase64 == nil {
		return fmt.Errorf("entry %d of %s is a %s, which replaced no bytes", e.Seq, d.Service, e.Verb)
	}
	bytes, err := base64.StdEncoding.DecodeString(*e.BeforeBase64)
	if err != nil {
		return fmt.Errorf("entry %d of %s: %w", e.Seq, d.Service, err)
	}
	if !utf8.Valid(bytes) && terminal.Is(c.out) {
		say(c.out, "%s (base64)\n", *e.BeforeBase64)
		return nil
	}
	_, err = c.out.Write(bytes)
	return err
}

// about is what an entry says beside the reason.
func about(e letters.AuditEntry) string {
	var more []string
	if e.Letter != nil && e.Job != nil {
		more = append(more, "job "+*e.Job)
	}
	if e.Detail != nil {
		more = append(more, *e.Detail)
	}
	if len(more) == 0 {
		return ""
	}
	return " (" + strings.Join(more, ", ") + ")"
}

// value is what an optional field has, or its zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// maxInput bounds what is read from standard input, in bytes.
const maxInput = 4 << 20

func readAll(r io.Reader) ([]byte, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && len(all) > maxInput {
		err = fmt.Errorf("standard input is longer than %d bytes", maxInput)
	}
	return all, err
}
