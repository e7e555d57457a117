package audit

import (
	"fmt"
	"slices"

	"github.com/orderflow/orderflow/api/events"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// Names of the findings, beside those of package books.
const (
	FindingPosts        = "every POST is accounted for"
	FindingParticipants = "each order's stock, money and parcel are those of its end"
	FindingSagas        = "every saga has ended, and its order with it"
	FindingStories      = "each order's messages are those of its saga, in order"
	FindingMessages     = "every message is whole, the same wherever it stands, and has a cause"
	FindingTold         = "every transition was told once, numbered without a gap"
	FindingAnalytics    = "analytics has seen each order once"
	FindingHandled      = "every message was handled by every group that receives it"
	FindingQuiet        = "nothing waits"
)

// Judge says what the evidence shows. It reads nothing else.
func Judge(e Evidence, o Options) books.Audit {
	audit := books.Audit{OK: e.Books.OK, Findings: slices.Clone(e.Books.Findings)}
	c := newCourt(e, o)
	for _, f := range []struct {
		name string
		of   func() (says string, wrong []string)
	}{
		{FindingPosts, c.posts}, {FindingParticipants, c.participants}, {FindingSagas, c.sagas}, {FindingStories, c.stories},
		{FindingMessages, c.messages}, {FindingTold, c.told}, {FindingAnalytics, c.analytics}, {FindingHandled, c.handled}, {FindingQuiet, c.quiet},
	} {
		says, wrong := f.of()
		audit.Findings = append(audit.Findings, books.Finding{Name: f.name, OK: len(wrong) == 0, Says: says, Wrong: wrong})
		audit.OK = audit.OK && len(wrong) == 0
	}
	return audit
}

// court has the evidence, and what several judgements look up in it.
type court struct {
	Evidence
	options Options
	// byID are the messages by id, effects by their cause's id, and places where each stands, by its id.
	byID    map[string]evidence.Record
	effects map[string][]evidence.Record
	places  map[string][]string
	// sequences are the system's own messages, by key and topic.
	sequences map[string]map[string][]evidence.Record
	// letters are the places of what each group ever gave up, open of what it has not been given back.
	letters map[string]map[string]bool
	open    map[string]map[string]bool
}

func newCourt(e Evidence, o Options) *court {
	c := &court{
		Evidence: e, options: o, byID: e.Log.ByID(), sequences: map[string]map[string][]evidence.Record{},
		effects: map[string][]evidence.Record{}, places: map[string][]string{},
		letters: map[string]map[string]bool{}, open: map[string]map[string]bool{},
	}
	for _, r := range e.Log.Records {
		c.places[r.Event.ID] = append(c.places[r.Event.ID], r.Place())
	}
	for r := range e.Log.Messages {
		c.effects[r.Event.CausationID] = append(c.effects[r.Event.CausationID], r)
	}
	for key, topics := range e.Log.Sequences() {
		c.sequences[key] = map[string][]evidence.Record{}
		for topic, all := range topics {
			if own := slices.DeleteFunc(all, o.foreign); len(own) > 0 {
				c.sequences[key][topic] = own
			}
		}
	}
	for service, all := range e.Letters {
		c.letters[service], c.open[service] = map[string]bool{}, map[string]bool{}
		for _, l := range all {
			c.letters[service][l.ID] = true
			c.open[service][l.ID] = l.State != letters.StateRedriven
		}
	}
	return c
}

// gaveUp tells whether a service ever gave up a message, and whether it has not been given it back.
func (c *court) gaveUp(service, id string) (ever, open bool) {
	for _, place := range c.places[id] {
		ever, open = ever || c.letters[service][place], open || c.open[service][place]
	}
	return ever, open
}

// list collects sentences.
type list []string

func (l *list) add(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

// quiet: nothing is on its way, and nothing came while the evidence was gathered.
func (c *court) quiet() (string, []string) {
	wrong := append(evidence.Behind(c.Lag), c.Log.Grown(c.Lag)...)
	unsent, parked := 0, 0
	for _, service := range client.Services() {
		t := c.Tables[service]
		unsent, parked = unsent+len(t.Outbox), parked+len(t.Parked)
		for _, w := range t.Waiting() {
			wrong = append(wrong, service+": "+w)
		}
	}
	return fmt.Sprintf("%d groups; %d messages unsent, %d parked", len(c.Lag), unsent, parked), wrong
}

// handled: each service's inbox has the messages of its topics, and no others.
func (c *court) handled() (string, []string) {
	var wrong []string
	marks := 0
	for _, service := range client.Services() {
		var topics []string
		for _, t := range events.Received(service) {
			if t.Kind == events.KindEvent || t.Kind == events.KindCommand {
				topics = append(topics, t.Name)
			}
		}
		inbox := c.Tables[service].Inbox
		marks += len(inbox)
		wrong = append(wrong, c.Log.Handled(service, topics, inbox, func(r evidence.Record) bool { return c.open[service][r.Place()] })...)
		for _, m := range inbox {
			if m.Consumer != service {
				wrong = append(wrong, fmt.Sprintf("the inbox of %s has a mark of %s: %s", service, m.Consumer, m.MessageID))
			}
		}
	}
	return fmt.Sprintf("%d marks for %d messages", marks, len(c.byID)), wrong
}

// messages: whole, the same each time, in their topics, with causes.
func (c *court) messages() (string, []string) {
	wrong := list(c.Log.Strangers(c.options.foreign))
	wrong = append(wrong, c.Log.Repeats()...)
	wrong = append(wrong, c.Log.Keys()...)
	wrong = append(wrong, c.Log.Causes(func(r evidence.Record) bool { return c.options.foreign(r) || mayBegin(r) })...)
	for r := range c.Log.Messages {
		if c.options.foreign(r) {
			continue
		}
		if err := events.Validate(r.Event.Type, r.Event.Data); err != nil {
			wrong.add("%s: %s", r, err)
		}
		message, known := events.Find(r.Event.Type)
		if !known || message.Topic != r.Topic {
			wrong.add("%s is of a type that does not belong on its topic", r)
		}
		if r.Event.CorrelationID != r.Event.Key || r.Event.Subject != r.Event.Key {
			wrong.add("%s: correlation id %q and subject %q must be its key", r, r.Event.CorrelationID, r.Event.Subject)
		}
	}
	return fmt.Sprintf("%d records of %d messages", len(c.Log.Records), len(c.byID)), wrong
}

// mayBegin tells whether a message may be the first of what something outside led to: a request or a deadline. Participants
// are led by commands alone. What led to it is judged with its order's story.
func mayBegin(r evidence.Record) bool { return r.Event.Source == sourceOrder }
