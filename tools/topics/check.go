package topics

import (
	"fmt"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/event"
)

// Check names everything in a story of one key that breaks the contracts: an envelope that is not whole, data that
// breaks its schema, a key or correlation id that is another's, a cause that is neither a message of the story nor one of
// the outer causes (the ids of requests; timers are known by their prefix), a trace that is not the cause's.
func Check(story []Entry, outer ...string) []string {
	var wrong []string
	known := map[string]bool{}
	for _, id := range outer {
		known[id] = true
	}
	traces := map[string]string{}
	for _, e := range story {
		known[e.Event.ID] = true
		traces[e.Event.ID] = TraceID(e.Event)
	}
	var correlation string
	for _, e := range story {
		where := fmt.Sprintf("%s-%d-%d", e.Topic, e.Partition, e.Offset)
		say := func(format string, args ...any) { wrong = append(wrong, where+": "+fmt.Sprintf(format, args...)) }
		if e.Err != nil {
			say("%s", e.Err)
			continue
		}
		if string(e.Key) != e.Event.Key || e.Event.Subject != e.Event.Key {
			say("key %q, %s %q and %s %q differ", e.Key, event.HeaderKey, e.Event.Key, event.HeaderSubject, e.Event.Subject)
		}
		if err := events.Validate(e.Event.Type, e.Event.Data); err != nil {
			say("%s", err)
		}
		if message, ok := events.Find(e.Event.Type); !ok || message.Topic != e.Topic {
			say("%s does not belong on this topic", e.Event.Type)
		}
		if e.Headers[event.HeaderContentType] != "application/json" {
			say("%s is %q", event.HeaderContentType, e.Headers[event.HeaderContentType])
		}
		switch {
		case e.Event.CorrelationID == "":
			say("no correlation id")
		case correlation == "":
			correlation = e.Event.CorrelationID
		case e.Event.CorrelationID != correlation:
			say("its correlation id %s is not the story's %s", e.Event.CorrelationID, correlation)
		}
		switch cause := e.Event.CausationID; {
		case cause == "":
			say("no causation id")
		case !known[cause] && !strings.HasPrefix(cause, "deadline:"):
			say("its cause %s is not in the story", cause)
		}
		// What a request or a timer leads to may begin a trace; everything else goes on with its cause's.
		id := TraceID(e.Event)
		if id == "" {
			say("no trace id")
		} else if cause, ok := traces[e.Event.CausationID]; ok && id != cause {
			say("its trace %s is not its cause's %s", id, cause)
		}
	}
	return wrong
}

// TraceID is the trace that an event belongs to (W3C traceparent), or empty.
func TraceID(e event.Event) string {
	if parts := strings.Split(e.Traceparent, "-"); len(parts) == 4 && len(parts[1]) == 32 {
		return parts[1]
	}
	return ""
}
