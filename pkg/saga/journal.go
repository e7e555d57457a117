package saga

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxJournal bounds State.Journal.
const MaxJournal = 200

// maxText bounds each text that comes from outside into a state, in bytes.
const maxText = 500

// EntryKind is what a journal entry tells.
type EntryKind string

// What a journal tells.
const (
	EntryStarted             EntryKind = "started"
	EntryCommandSent         EntryKind = "command_sent"
	EntryReply               EntryKind = "reply"
	EntryLateReply           EntryKind = "late_reply"       // of a step that the saga had given up waiting for; ignored
	EntryUnexpectedReply     EntryKind = "unexpected_reply" // an answer to nothing that was asked; ignored
	EntryDeadlinePassed      EntryKind = "deadline_passed"
	EntryCancelRequested     EntryKind = "cancel_requested"
	EntryCompensationStarted EntryKind = "compensation_started"
	EntryCompensationFailed  EntryKind = "compensation_failed"
	EntryCompensationResumed EntryKind = "compensation_resumed"
	EntryOperator            EntryKind = "operator" // an Intervention that was followed
	EntryMoved               EntryKind = "moved"    // to a later version, by the rule that is the reason
	EntryFinished            EntryKind = "finished"
)

// Entry is one line of a saga's journal. What does not apply to its kind is zero.
type Entry struct {
	At        time.Time   `json:"at"`
	Kind      EntryKind   `json:"kind"`
	Step      string      `json:"step,omitempty"`
	Command   CommandKind `json:"command,omitempty"` // sent, or whose answer or deadline it is
	Attempt   int         `json:"attempt,omitempty"`
	Outcome   Outcome     `json:"outcome,omitempty"`
	Status    Status      `json:"status,omitempty"` // of the saga, when it finished
	Reason    string      `json:"reason,omitempty"`
	Detail    string      `json:"detail,omitempty"`
	MessageID string      `json:"message_id,omitempty"`
	// Of an Intervention: what was asked, by whom, and of which version of the saga.
	Verb    Verb   `json:"verb,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Version int64  `json:"version,omitempty"`
}

// String is the entry for people, without its time: "reply second: failed (declined, no money)".
func (e Entry) String() string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(string(e.Kind), "_", " "))
	if e.Verb != "" {
		fmt.Fprintf(&b, " %s", e.Verb)
	}
	if e.Command != "" {
		fmt.Fprintf(&b, " %s", e.Command)
	}
	if e.Step != "" {
		fmt.Fprintf(&b, " %s", e.Step)
	}
	if e.Attempt > 0 {
		fmt.Fprintf(&b, " #%d", e.Attempt)
	}
	if e.Outcome != "" {
		fmt.Fprintf(&b, ": %s", e.Outcome)
	}
	if e.Status != "" {
		fmt.Fprintf(&b, ": %s", e.Status)
	}
	switch {
	case e.Reason != "" && e.Detail != "":
		fmt.Fprintf(&b, " (%s, %s)", e.Reason, e.Detail)
	case e.Reason != "" || e.Detail != "":
		fmt.Fprintf(&b, " (%s%s)", e.Reason, e.Detail)
	}
	if e.Actor != "" {
		fmt.Fprintf(&b, " by %s", e.Actor)
	}
	return b.String()
}

// clip bounds a text from outside without cutting a character in two.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
