// Package terminal says how to write for a person: with colours on a terminal, plain everywhere else.
package terminal

import (
	"io"
	"os"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/term"
)

// Style colours text, or leaves it as it is.
type Style struct{ colours bool }

// For returns the style of a writer: colours on a terminal unless NO_COLOR is set (no-color.org).
func For(out io.Writer) Style {
	return Style{colours: Is(out) && os.Getenv("NO_COLOR") == ""}
}

// Is tells whether somebody looks at the writer.
func Is(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// Bold is a heading.
func (s Style) Bold(text string) string { return s.render(lipgloss.NewStyle().Bold(true), text) }

// Faint is what one may skip.
func (s Style) Faint(text string) string { return s.render(lipgloss.NewStyle().Faint(true), text) }

// Good is as it should be.
func (s Style) Good(text string) string {
	return s.render(lipgloss.NewStyle().Foreground(lipgloss.Green), text)
}

// Bad is not.
func (s Style) Bad(text string) string {
	return s.render(lipgloss.NewStyle().Foreground(lipgloss.Red), text)
}

func (s Style) render(style lipgloss.Style, text string) string {
	if !s.colours {
		return text
	}
	return style.Render(text)
}

// Clip makes a text one line of at most so many characters.
func Clip(text string, most int) string {
	r := []rune(strings.Join(strings.Fields(text), " "))
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return string(r)
}
