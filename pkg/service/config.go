package service

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"

	"github.com/orderflow/orderflow/pkg/observe"
)

// variable is one setting of a configuration struct.
type variable struct {
	name     string
	value    reflect.Value
	field    reflect.StructField
	params   env.FieldParams
	secret   bool
	describe string
}

// variablesOf walks a pointer to a configuration struct, embedded and nested structs included (whose envPrefix tags
// add up, as in package env), and collects those structs' own Validate methods.
func variablesOf(ptr reflect.Value, prefix string) (vars []variable, validators []reflect.Value, err error) {
	validators = append(validators, ptr)
	for i := range ptr.Elem().NumField() {
		field, value := ptr.Elem().Type().Field(i), ptr.Elem().Field(i)
		if !field.IsExported() {
			continue
		}
		if _, tagged := field.Tag.Lookup("env"); !tagged {
			if field.Type.Kind() == reflect.Struct {
				nested, checks, err := variablesOf(value.Addr(), prefix+field.Tag.Get("envPrefix"))
				if err != nil {
					return nil, nil, err
				}
				vars, validators = append(vars, nested...), append(validators, checks...)
			}
			continue
		}
		v := variable{value: value, field: field, secret: field.Tag.Get("secret") == "true", describe: field.Tag.Get("desc")}
		params, err := env.GetFieldParamsWithOptions(v.alone().Interface(), env.Options{Prefix: prefix})
		if err != nil || len(params) != 1 {
			return nil, nil, fmt.Errorf("config field %s: bad env tag %q: %w", field.Name, field.Tag.Get("env"), err)
		}
		v.params, v.name = params[0], params[0].Key
		vars = append(vars, v)
	}
	return vars, validators, nil
}

// alone is a pointer to a struct of just this field: parsed alone, an error is this variable's for certain, which
// package env's own errors do not say.
func (v variable) alone() reflect.Value {
	return reflect.New(reflect.StructOf([]reflect.StructField{{Name: v.field.Name, Type: v.field.Type, Tag: v.field.Tag}}))
}

// load fills *cfg from environ and returns every mistake, one line each: the variable, what is wrong, what is allowed.
func load[C any](cfg *C, environ map[string]string) ([]variable, []string) {
	vars, validators, err := variablesOf(reflect.ValueOf(cfg), "")
	if err != nil {
		return nil, []string{err.Error()}
	}
	applyDefaults(*cfg, vars)
	var mistakes []string
	wrong := map[string]bool{}
	for i := range vars {
		if mistake := vars[i].parse(environ); mistake != "" {
			mistakes = append(mistakes, mistake)
			wrong[vars[i].name] = true
		}
	}
	for _, v := range validators {
		for _, line := range validate(v.Interface()) {
			name, _, _ := strings.Cut(line, " ")
			// A variable that could not be read has been named; what Validate says of its zero value is noise. An
			// embedded struct's Validate is found twice.
			if !wrong[name] && !slices.Contains(mistakes, line) {
				mistakes = append(mistakes, line)
			}
		}
	}
	return vars, mistakes
}

// applyDefaults lets a configuration change the defaults of what it embeds: a method Defaults() map[string]string from
// variable to value.
func applyDefaults(cfg any, vars []variable) {
	d, ok := cfg.(interface{ Defaults() map[string]string })
	if !ok {
		return
	}
	defaults := d.Defaults()
	for i := range vars {
		if value, ok := defaults[vars[i].name]; ok {
			vars[i].params.DefaultValue, vars[i].params.HasDefaultValue, vars[i].params.Required = value, true, false
		}
	}
}

// parse sets the field from the environment; it returns what is wrong, or nothing.
func (v variable) parse(environ map[string]string) string {
	text, set := environ[v.name]
	text = strings.TrimSpace(text)
	if text == "" {
		text, set = v.params.DefaultValue, v.params.HasDefaultValue
	}
	if !set || text == "" {
		if v.params.Required || v.params.NotEmpty {
			return fmt.Sprintf("%s is not set, must be %s", v.name, v.allowed())
		}
		return ""
	}
	one := v.alone()
	err := env.ParseWithOptions(one.Interface(), env.Options{Environment: map[string]string{v.params.OwnKey: text}})
	if err != nil {
		given := fmt.Sprintf("%q", observe.Mask(text))
		if v.secret {
			given = "unreadable"
		}
		return fmt.Sprintf("%s is %s, must be %s", v.name, given, v.allowed())
	}
	v.value.Set(one.Elem().Field(0))
	if list, ok := v.value.Addr().Interface().(*[]string); ok {
		for i, item := range *list {
			(*list)[i] = strings.TrimSpace(item)
		}
	}
	return ""
}

// allowed says a value's shape: the type's, and the description.
func (v variable) allowed() string {
	shape := typeShape(v.field.Type)
	switch {
	case shape == "" && v.describe == "":
		return "given"
	case shape == "":
		return v.describe
	case v.describe == "":
		return shape
	default:
		return shape + ": " + v.describe
	}
}

func typeShape(t reflect.Type) string {
	if t.PkgPath() == "time" && t.Name() == "Duration" {
		return "a duration such as 500ms, 10s or 2m"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if t.PkgPath() == "" {
			return "a whole number"
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return ""
}

// validate calls cfg's Validate() error or Validate() []error and returns a line for each mistake; errors.Join has
// them one a line too.
func validate(cfg any) []string {
	var err error
	switch v := cfg.(type) {
	case interface{ Validate() []error }:
		err = errors.Join(v.Validate()...)
	case interface{ Validate() error }:
		err = v.Validate()
	}
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// print is the variable's value as a log may show it.
func (v variable) print() string {
	text := fmt.Sprint(v.value.Interface())
	if v.secret && text != "" {
		return observe.Masked
	}
	return observe.Mask(text)
}

// usage prints what the process reads and answers to.
func usage(w io.Writer, name string, vars []variable) {
	_, _ = fmt.Fprintf(w, "%s is configured by environment variables:\n\n", name)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "VARIABLE\tDEFAULT\tDESCRIPTION")
	for _, v := range vars {
		def := v.params.DefaultValue
		switch {
		case v.params.Required:
			def = "(required)"
		case !v.params.HasDefaultValue || def == "":
			def = "(empty)"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", v.name, def, v.describe)
	}
	_ = table.Flush()
	_, _ = fmt.Fprint(w, "\nArguments:\n  --help              print this\n"+
		"  -healthcheck        ask the process at HTTP_ADDR whether it lives; exit 0 or 1\n"+
		"  -healthcheck=ready  ask it whether it is ready\n")
}
