package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/replay"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

type replayCmd struct {
	cluster `embed:""`
	Group   string `help:"The service whose history is read again, which is its consumer group." required:""`
	Topic   string `help:"The topic to read again; the service must receive it."`
	From    string `help:"Where to begin: a time (2026-11-21T12:00:00Z), how long ago (--from=-2h), an offset for every partition (1200), offsets by partition (0:1200,3:40: only these), or 'oldest'."`
	To      string `help:"Where to end, likewise, and without it: what stands in the topic when the replay begins."`
	As      string `help:"The group to replay to, beside the live one; the default is <group>.replay."`
	Live    bool   `help:"Replay to the live group itself."`
	Inbox   string `help:"With --live: 'skip' what has been handled, which fills gaps, or handle it 'again', once in each replay."`
	ID      string `name:"id" help:"The replay's name. The same command with the same name goes on where it stopped, and copies nothing twice. The default is a new one."`
	Rate    int    `help:"Copy at most so many records a second; 0 is as fast as it goes."`
	DryRun  bool   `help:"Show what would be copied and created; write nothing."`
	Follow  *bool  `negatable:"" help:"Wait until the group has handled everything, and count what it gave up. The default on a terminal."`
	Cleanup bool   `help:"Remove what a replay beside the live group left in Kafka: its topics, its groups, and with --id what is known of that replay."`
	JSON    bool   `name:"json" help:"Print a summary in JSON for programs, and the rest to the error output."`
}

// Help is what --help says besides the flags.
func (replayCmd) Help() string {
	return `Records are copied to the redrive topic of a group, in order for each key, as they are, with their place and the replay's
id in headers. The group handles them there by the handlers of the topic that they came from.

Beside the live group (the default) that is a second instance of the service, started by you with REPLAY_GROUP=<group>.replay
and a DATABASE_URL of its own. It consumes that redrive topic and nothing else, gives up to its own dead-letter topic, and lets
nothing out: what its handlers publish is thrown away. The order and the notification service refuse it, payment and shipping
unless they have their sandbox: history would act on the outside.

With --live the group itself gets the copies, and what its handlers publish goes out. --inbox says what becomes of a record
that it has handled.`
}

// Run replays, or shows what it would do, or cleans up.
func (r replayCmd) Run(ctx context.Context, c console) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	admin, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	if r.Cleanup {
		return r.cleanup(ctx, c, admin)
	}
	request, err := r.request(time.Now())
	if err != nil {
		return err
	}
	plan, err := replay.Prepare(ctx, admin, request)
	if err != nil {
		return err
	}
	create, err := r.missing(ctx, admin)
	if err != nil {
		return err
	}
	missing := make([]string, len(create))
	for i, t := range create {
		missing[i] = t.Name
	}
	if r.Live && len(missing) > 0 {
		return fmt.Errorf("the group's topics %s are not there; `orderctl topics apply` creates them", strings.Join(missing, ", "))
	}
	report := replayReport{console: c, json: r.JSON}
	if err := report.plan(ctx, admin, plan, missing); err != nil {
		return err
	}
	if r.DryRun {
		return report.end()
	}
	if len(create) > 0 {
		if err := admin.EnsureTopics(ctx, create); err != nil {
			return err
		}
	}
	if err := plan.Begin(ctx, admin, time.Now()); err != nil {
		return err
	}
	if err := r.copy(ctx, &report, admin, plan); err != nil {
		return errors.Join(err, report.end())
	}
	if r.follows(c) {
		if err := r.follow(ctx, &report, admin, plan); err != nil {
			return errors.Join(err, report.end())
		}
	} else {
		report.say("%s\n", r.start(plan.Target))
	}
	return report.end()
}

// follows is whether to wait for the group.
func (r replayCmd) follows(c console) bool {
	if r.Follow != nil {
		return *r.Follow
	}
	return terminal.Is(c.out)
}

// target is the group that gets the copies.
func (r replayCmd) target() string {
	if r.Live {
		return r.Group
	}
	return cmp.Or(r.As, r.Group+".replay")
}

// received are the topics of events and commands that the service receives: what has a history.
func (r replayCmd) received() []string {
	var names []string
	for _, topic := range events.Received(r.Group) {
		if topic.Kind == events.KindEvent || topic.Kind == events.KindCommand {
			names = append(names, topic.Name)
		}
	}
	return names
}

// check refuses what cannot be meant, before anything is asked or written.
func (r replayCmd) check() error {
	if !slices.Contains(client.Services(), r.Group) {
		return fmt.Errorf("--group is %q, must be one of %s", r.Group, strings.Join(client.Services(), ", "))
	}
	if r.As != "" {
		if name, ours := strings.CutPrefix(r.As, r.Group+"."); !ours || name == "" || !kafka.ValidName(deadletter.RedriveTopic(r.As)) {
			return fmt.Errorf("--as is %q, must be %s.<name> of letters, digits, '.', '_' and '-'", r.As, r.Group)
		}
	}
	switch {
	case r.Live && r.As != "":
		return errors.New("--live is the live group itself, and --as one beside it: choose one")
	case r.Cleanup && r.Live:
		return errors.New("--cleanup removes a group beside the live one, never that: leave out --live")
	case r.Cleanup && (r.Topic != "" || r.From != "" || r.To != "" || r.DryRun):
		return errors.New("--cleanup takes --group, and if you like --as and --id")
	case r.Cleanup:
		return nil
	case r.Topic == "":
		return fmt.Errorf("--topic is missing: %s receives %s", r.Group, strings.Join(r.received(), ", "))
	case !slices.Contains(r.received(), r.Topic):
		return fmt.Errorf("%s does not receive %s; it receives %s", r.Group, r.Topic, strings.Join(r.received(), ", "))
	case r.From == "":
		return errors.New("--from is missing: a time, how long ago, an offset, or 'oldest'")
	case r.Rate < 0:
		return fmt.Errorf("--rate is %d, must not be negative", r.Rate)
	case !r.Live && r.Inbox != "":
		return errors.New("--inbox goes with --live: the inbox of a group beside it is empty")
	case r.Live && r.Inbox == "":
		return fmt.Errorf("--live wants --inbox: 'skip' drops what %s has handled and fills gaps only; 'again' handles each record once more, with all that follows: it publishes again, and calls the outside again", r.Group)
	case r.Live && r.Inbox != deadletter.ReplaySkip && r.Inbox != deadletter.ReplayAgain:
		return fmt.Errorf("--inbox is %q, must be %s or %s", r.Inbox, deadletter.ReplaySkip, deadletter.ReplayAgain)
	}
	return nil
}

func (r replayCmd) request(now time.Time) (replay.Request, error) {
	from, err := replay.ParseBound(r.From, now)
	if err != nil {
		return replay.Request{}, fmt.Errorf("--from: %w", err)
	}
	to, err := replay.ParseBound(r.To, now)
	if err != nil {
		return replay.Request{}, fmt.Errorf("--to: %w", err)
	}
	return replay.Request{
		ID:    cmp.Or(r.ID, now.UTC().Format("20060102-150405-")+strings.ToLower(rand.Text()[:4])),
		Topic: r.Topic, Target: r.target(), From: from, To: to, Inbox: cmp.Or(r.Inbox, deadletter.ReplaySkip),
	}, nil
}

// missing are the target's topics that are not there, as topics.yaml declares the live group's, with as many copies as
// those have.
func (r replayCmd) missing(ctx context.Context, admin *kafka.Admin) ([]kafka.Topic, error) {
	var live, target []string
	var topics []kafka.Topic
	for _, t := range events.TopicsOf(r.Group) {
		if t.Owner != r.Group || t.Kind != events.KindDeadLetter && t.Kind != events.KindRedrive {
			continue
		}
		live = append(live, t.Name)
		t.Name = r.target() + strings.TrimPrefix(t.Name, r.Group)
		target = append(target, t.Name)
		topics = append(topics, kafka.Topics([]events.Topic{t})...)
	}
	cluster, err := admin.Describe(ctx, slices.Concat(live, target)...)
	if err != nil {
		return nil, err
	}
	var missing []kafka.Topic
	for i, t := range topics {
		if _, there := cluster.Topics[t.Name]; there {
			continue
		}
		if twin, there := cluster.Topics[live[i]]; there && len(twin.Replicas) > 0 {
			const inSync = "min.insync.replicas"
			t.Replication = int16(len(twin.Replicas[0]))
			if n, set := twin.Overrides[inSync]; set {
				t.Configs[inSync] = n
			}
		}
		missing = append(missing, t)
	}
	return missing, nil
}

func (r replayCmd) copy(ctx context.Context, report *replayReport, admin *kafka.Admin, plan replay.Plan) error {
	bar := report.bar("copied")
	after, records, err := replay.Copier{
		Kafka: kafka.Config{Brokers: r.Brokers, ClientID: "orderctl"}, Admin: admin, Rate: r.Rate, Logger: report.logger(),
		Progress: func(p replay.Plan) { bar.show(p.Done(), p.Total()) },
	}.Run(ctx, plan)
	bar.close()
	report.copied(after, records)
	if err != nil {
		stopped := fmt.Errorf("stopped at %d of %d offsets; the same command with --id=%s goes on from there", after.Done(), after.Total(), plan.ID)
		if !errors.Is(err, context.Canceled) { // Ctrl-C needs no reason
			stopped = fmt.Errorf("%w: %w", stopped, err)
		}
		return stopped
	}
	report.say("Copied %d records to %s, replay %s.\n", records, deadletter.RedriveTopic(plan.Target), plan.ID)
	return nil
}

// start says what handles the copies.
func (r replayCmd) start(target string) string {
	if r.Live {
		return fmt.Sprintf("The %s service handles them; `orderctl lag --group %s` shows how far it is.", r.Group, target)
	}
	return fmt.Sprintf("They are handled by: REPLAY_GROUP=%s DATABASE_URL=<one of its own> KAFKA_BROKERS=%s HTTP_ADDR=:0 %s\n`orderctl lag --group %s` shows how far it is.",
		target, strings.Join(r.Brokers, ","), r.Group, target)
}

func (r replayCmd) follow(ctx context.Context, report *replayReport, admin *kafka.Admin, plan replay.Plan) error {
	bar, told := report.bar("handled"), false
	total := int64(0)
	err := replay.Follow(ctx, admin, plan.Target, func(s replay.Status) {
		if s.Members == 0 && s.Waiting > 0 && !told {
			told = true
			report.say("Nobody reads %s.\n%s\n", deadletter.RedriveTopic(plan.Target), r.start(plan.Target))
		}
		total = max(total, s.Waiting)
		bar.show(total-s.Waiting, total)
	})
	bar.close()
	if err != nil {
		return fmt.Errorf("stopped waiting for %s; all is copied, and it goes on without this: %w", plan.Target, err)
	}
	letters, err := replay.DeadLetters(ctx, kafka.Config{Brokers: r.Brokers, ClientID: "orderctl"}, admin, plan)
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	report.handled(letters)
	report.say("%s has handled all of it, and gave up %d records", plan.Target, letters)
	if letters > 0 {
		report.say(": its /admin/dead-letters says why")
	}
	report.say(".\n")
	return nil
}

// cleanup removes topics and groups, and says which.
func (r replayCmd) cleanup(ctx context.Context, c console, admin *kafka.Admin) error {
	target := r.target()
	lags, err := admin.Lag(ctx, map[string][]string{target: nil, deadletter.IndexGroup(target): nil})
	if err != nil {
		return err
	}
	for _, g := range lags {
		if g.Members > 0 {
			return fmt.Errorf("group %s has %d members: stop the instance with REPLAY_GROUP=%s first", g.Group, g.Members, target)
		}
	}
	for _, topic := range []string{deadletter.RedriveTopic(target), deadletter.Topic(target)} {
		if err := admin.DeleteTopic(ctx, topic); err != nil {
			return err
		}
		say(c.out, "removed topic %s\n", topic)
	}
	for _, g := range lags {
		if err := admin.DeleteGroup(ctx, g.Group); err != nil {
			return err
		}
		say(c.out, "removed group %s\n", g.Group)
	}
	if r.ID != "" {
		if err := replay.Forget(ctx, admin, r.ID); err != nil {
			return err
		}
		say(c.out, "forgot replay %s\n", r.ID)
	}
	return nil
}
