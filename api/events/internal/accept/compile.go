package accept

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Checker accepts messages that are certainly valid by one schema. The nil Checker accepts nothing.
type Checker struct {
	root *node
}

// kind is which values a node is about. The zero kind accepts none.
type kind int

const (
	object kind = iota + 1
	array
	text
	integer
	anything
)

// node is one schema.
type node struct {
	kind kind
	// least and most bound an integer's value, a text's code points, an array's items.
	least, most int64
	// properties are an object's known fields.
	properties []property
	// required has a bit for each of properties that must be there.
	required uint64
	// items is what an array's items are like.
	items *node
	// pattern is nil if a text may be any.
	pattern *pattern
	// dateTime says that a text is an instant.
	dateTime bool
}

type property struct {
	name string
	*node
}

// Compiler makes Checkers, which share what their schemas share. The zero one is ready.
type Compiler struct {
	// nodes are by schema; nil while it is being made.
	nodes    map[*jsonschema.Schema]*node
	patterns map[string]*pattern
}

// harmless are the fields of a schema that assert nothing: where it comes from, annotations, and what the library keeps
// for $dynamicRef and unevaluated*, which are not known here.
var harmless = []string{
	"up", "resource", "allPropsEvaluated", "allItemsEvaluated", "numItemsEvaluated", "DraftVersion", "Location", "ID",
	"Title", "Description", "Default", "Comment", "ReadOnly", "WriteOnly", "Examples", "Deprecated",
}

// Compile makes a schema's Checker. The error says what of the schema is not known here.
func (c *Compiler) Compile(s *jsonschema.Schema) (*Checker, error) {
	root, err := c.node(s)
	if err != nil {
		return nil, err
	}
	return &Checker{root: root}, nil
}

func (c *Compiler) node(s *jsonschema.Schema) (*node, error) {
	if n, ok := c.nodes[s]; ok {
		if n == nil {
			return nil, fmt.Errorf("%s: recursive, or tried before", s.Location)
		}
		return n, nil
	}
	if c.nodes == nil {
		c.nodes = map[*jsonschema.Schema]*node{}
	}
	c.nodes[s] = nil
	n, err := c.make(s)
	if err != nil {
		return nil, err
	}
	c.nodes[s] = n
	return n, nil
}

func (c *Compiler) make(s *jsonschema.Schema) (*node, error) {
	if s.DraftVersion != 2020 {
		return nil, fmt.Errorf("%s: draft %d", s.Location, s.DraftVersion)
	}
	if s.Ref != nil {
		if err := only(s, "Ref"); err != nil {
			return nil, err
		}
		return c.node(s.Ref)
	}
	if s.Types == nil || len(s.Types.ToStrings()) != 1 {
		return nil, fmt.Errorf("%s: not of one type", s.Location)
	}
	switch t := s.Types.ToStrings()[0]; t {
	case "object":
		return c.object(s)
	case "array":
		return c.array(s)
	case "string":
		return c.text(s)
	case "integer":
		return c.integer(s)
	default:
		return nil, fmt.Errorf("%s: type %s", s.Location, t)
	}
}

// only fails if any field of a schema is set but those named and the harmless ones.
func only(s *jsonschema.Schema, known ...string) error {
	for field, value := range reflect.ValueOf(s).Elem().Fields() {
		if !value.IsZero() && !slices.Contains(known, field.Name) && !slices.Contains(harmless, field.Name) {
			return fmt.Errorf("%s: %s", s.Location, field.Name)
		}
	}
	return nil
}

func (c *Compiler) object(s *jsonschema.Schema) (*node, error) {
	if err := only(s, "Types", "Properties", "Required"); err != nil {
		return nil, err
	}
	if len(s.Properties) > 64 {
		return nil, fmt.Errorf("%s: more than 64 properties", s.Location)
	}
	n := &node{kind: object}
	names := slices.Sorted(maps.Keys(s.Properties))
	for _, name := range names {
		value, err := c.node(s.Properties[name])
		if err != nil {
			return nil, err
		}
		n.properties = append(n.properties, property{name: name, node: value})
	}
	for _, name := range s.Required {
		i, found := slices.BinarySearch(names, name)
		if !found {
			return nil, fmt.Errorf("%s: requires a field that it does not describe", s.Location)
		}
		n.required |= 1 << i
	}
	return n, nil
}

func (c *Compiler) array(s *jsonschema.Schema) (*node, error) {
	if err := only(s, "Types", "MinItems", "MaxItems", "Items2020"); err != nil {
		return nil, err
	}
	if s.Items2020 == nil {
		return nil, fmt.Errorf("%s: no items", s.Location)
	}
	items, err := c.node(s.Items2020)
	if err != nil {
		return nil, err
	}
	return &node{kind: array, items: items, least: count(s.MinItems, 0), most: count(s.MaxItems, math.MaxInt64)}, nil
}

func (c *Compiler) text(s *jsonschema.Schema) (*node, error) {
	if err := only(s, "Types", "MinLength", "MaxLength", "Pattern", "Format"); err != nil {
		return nil, err
	}
	n := &node{kind: text, least: count(s.MinLength, 0), most: count(s.MaxLength, math.MaxInt64)}
	if s.Format != nil {
		if s.Format.Name != "date-time" {
			return nil, fmt.Errorf("%s: format %s", s.Location, s.Format.Name)
		}
		n.dateTime = true
	}
	if s.Pattern != nil {
		re, ok := s.Pattern.(*regexp.Regexp)
		if !ok {
			return nil, fmt.Errorf("%s: pattern of a %T", s.Location, s.Pattern)
		}
		n.pattern = c.pattern(re)
	}
	return n, nil
}

func (c *Compiler) pattern(re *regexp.Regexp) *pattern {
	if c.patterns == nil {
		c.patterns = map[string]*pattern{}
	}
	p, ok := c.patterns[re.String()]
	if !ok {
		p = newPattern(re)
		c.patterns[re.String()] = p
	}
	return p
}

func (c *Compiler) integer(s *jsonschema.Schema) (*node, error) {
	if err := only(s, "Types", "Minimum", "Maximum"); err != nil {
		return nil, err
	}
	least, err := bound(s.Minimum, math.MinInt64)
	if err != nil {
		return nil, fmt.Errorf("%s: minimum: %w", s.Location, err)
	}
	most, err := bound(s.Maximum, math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("%s: maximum: %w", s.Location, err)
	}
	return &node{kind: integer, least: least, most: most}, nil
}

func bound(b *big.Rat, none int64) (int64, error) {
	if b == nil {
		return none, nil
	}
	if !b.IsInt() || !b.Num().IsInt64() {
		return 0, errors.New("not an integer of 64 bits")
	}
	return b.Num().Int64(), nil
}

func count(n *int, none int64) int64 {
	if n == nil {
		return none
	}
	return int64(*n)
}
