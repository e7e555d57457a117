package bench

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes of the plot in pixels: panels side by side, each with room for its axes' labels.
const (
	panelWidth, panelHeight                          = 480, 340
	marginLeft, marginRight, marginTop, marginBottom = 64, 24, 48, 56
	tickCount                                        = 5
)

// panel is one diagram: lines over the same places on the horizontal axis, which stand side by side at equal distances.
type panel struct {
	title, x, y string
	places      []string
	lines       []series
	// kind is the same for panels with one scale.
	kind string
}

// series is a line of a panel, with a value at each place.
type series struct {
	name, colour string
	values       []float64
}

// SVG draws throughput against concurrency and latency against rate, as far as they were measured. The same report always
// gives the same bytes.
func (r Report) SVG() string {
	allClosed, _, allOpen, _ := r.split()
	// They are of another system, so no line goes through them.
	allClosed = slices.DeleteFunc(allClosed, func(r Result) bool { return r.Load.SagaAlone })
	var panels []panel
	for _, of := range []string{"", RivalOrchestrator} {
		closed, open, who := only(allClosed, of), only(allOpen, of), ""
		if of != "" {
			who = of + ", "
		}
		if len(closed) > 0 {
			p := panel{title: title(who, "closed loop: throughput"), x: "orders in flight", y: "orders ended per second"}
			throughput := series{name: "orders/s", colour: "#1f77b4"}
			for _, run := range closed {
				p.places = append(p.places, run.Load.amount())
				throughput.values = append(throughput.values, run.Figures.PerSecond)
			}
			p.lines = []series{throughput}
			panels = append(panels, p, latencies(title(who, "closed loop: latency"), "orders in flight", closed))
		}
		if len(open) > 0 {
			panels = append(panels, latencies(title(who, "open loop: latency"), "orders due per second", open))
		}
	}
	// Those of one kind have one scale, or ours and a rival's could not be compared by eye.
	tops := map[string]float64{}
	for i, p := range panels {
		panels[i].kind = p.y + p.x
		tops[panels[i].kind] = max(tops[panels[i].kind], p.most())
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		max(len(panels), 1)*panelWidth, panelHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,0)">`+"\n", i*panelWidth)
		p.draw(&b, tops[p.kind])
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// title begins with a capital letter.
func title(who, what string) string {
	t := who + what
	return strings.ToUpper(t[:1]) + t[1:]
}

// most is the largest value.
func (p panel) most() (top float64) {
	for _, l := range p.lines {
		for _, v := range l.values {
			top = max(top, v)
		}
	}
	return top
}

func latencies(title, x string, runs []Result) panel {
	p := panel{title: title, x: x, y: "POST to terminal state, ms", lines: []series{
		{name: "p99.9", colour: "#7f7f7f"}, {name: "p99", colour: "#d62728"}, {name: "p90", colour: "#ff7f0e"}, {name: "p50", colour: "#2ca02c"},
	}}
	for _, run := range runs {
		l := run.Figures.EndToEnd
		p.places = append(p.places, run.Load.amount())
		for i, v := range []float64{l.P999, l.P99, l.P90, l.P50} {
			p.lines[i].values = append(p.lines[i].values, v)
		}
	}
	return p
}

// draw draws a vertical axis that reaches to top or a little above.
func (p panel) draw(b *strings.Builder, top float64) {
	const width, height = panelWidth - marginLeft - marginRight, panelHeight - marginTop - marginBottom
	step := niceStep(top / tickCount)
	top = max(math.Ceil(top/step-1e-9), 1) * step
	atX := func(i int) float64 { return marginLeft + width*(float64(i)+0.5)/float64(len(p.places)) }
	atY := func(v float64) float64 { return marginTop + height*(1-v/top) }

	fmt.Fprintf(b, `<text x="%d" y="20" font-size="14" font-weight="bold">%s</text>`+"\n", marginLeft, html.EscapeString(p.title))
	for i := 0; float64(i)*step <= top+step/2; i++ {
		v := float64(i) * step
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", marginLeft, atY(v), panelWidth-marginRight, atY(v))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", marginLeft-6, atY(v)+4, shortNumber(v))
	}
	for i, place := range p.places {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", atX(i), panelHeight-marginBottom+18, html.EscapeString(place))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", marginLeft+width/2, panelHeight-14, html.EscapeString(p.x))
	fmt.Fprintf(b, `<text transform="translate(14,%d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", marginTop+height/2, html.EscapeString(p.y))
	for n, l := range p.lines {
		points := make([]string, len(l.values))
		for i, v := range l.values {
			points[i] = fmt.Sprintf("%.1f,%.1f", atX(i), atY(v))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s at %s: %s</title></circle>`+"\n",
				atX(i), atY(v), l.colour, html.EscapeString(l.name), html.EscapeString(p.places[i]), shortNumber(v))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), l.colour)
		fmt.Fprintf(b, `<text x="%d" y="36" fill="%s">%s</text>`+"\n", marginLeft+n*70, l.colour, html.EscapeString(l.name))
	}
}

// niceStep is the smallest of 1, 2 and 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func shortNumber(v float64) string { return fmt.Sprintf("%.4g", v) }
