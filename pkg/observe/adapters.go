package observe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
)

// WatermillLogger lets Watermill write to l. Watermill's Info is about its own plumbing ("subscribing", "starting
// handler") and becomes Debug, its Debug too, and its Trace lies below that; Error stays Error. Watermill's interface
// has no context, so its lines have no trace id: what a message's handling is worth saying is said by package consumer.
func WatermillLogger(l *slog.Logger) watermill.LoggerAdapter { return watermillLogger{l} }

// levelTrace is Watermill's Trace, a line for every message.
const levelTrace = slog.LevelDebug - 4

type watermillLogger struct{ l *slog.Logger }

func (w watermillLogger) log(level slog.Level, msg string, err error, fields watermill.LogFields) {
	ctx := context.Background()
	if !w.l.Enabled(ctx, level) {
		return
	}
	attrs := attrsOf(fields)
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	w.l.LogAttrs(ctx, level, msg, attrs...)
}

func attrsOf(fields watermill.LogFields) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(fields)+1)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, slog.Any(name, fields[name]))
	}
	return attrs
}

func (w watermillLogger) Error(msg string, err error, fields watermill.LogFields) {
	w.log(slog.LevelError, msg, err, fields)
}

func (w watermillLogger) Info(msg string, fields watermill.LogFields) {
	w.log(slog.LevelDebug, msg, nil, fields)
}

func (w watermillLogger) Debug(msg string, fields watermill.LogFields) {
	w.log(slog.LevelDebug, msg, nil, fields)
}

func (w watermillLogger) Trace(msg string, fields watermill.LogFields) {
	w.log(levelTrace, msg, nil, fields)
}

func (w watermillLogger) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return watermillLogger{slog.New(w.l.Handler().WithAttrs(attrsOf(fields)))}
}

// PrintLogger is a logger for libraries that print lines without a level (sarama's StdLogger); they come out at Debug.
type PrintLogger struct{ l *slog.Logger }

// NewPrintLogger returns a PrintLogger that writes to l, each line marked with the library's name.
func NewPrintLogger(l *slog.Logger, library string) PrintLogger {
	return PrintLogger{l.With("library", library)}
}

// Print writes v as fmt.Sprint joins it.
func (p PrintLogger) Print(v ...any) { p.line(fmt.Sprint(v...)) }

// Printf writes a formatted line.
func (p PrintLogger) Printf(format string, v ...any) { p.line(fmt.Sprintf(format, v...)) }

// Println writes v as fmt.Sprintln joins it.
func (p PrintLogger) Println(v ...any) { p.line(fmt.Sprintln(v...)) }

func (p PrintLogger) line(text string) { p.l.Debug(strings.TrimSpace(text)) }
