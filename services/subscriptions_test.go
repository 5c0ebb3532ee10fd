package services_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/sources"
)

const subscriptionsFile = "components/events/subscriptions.yaml"

// A use of an event type in a service, with the place in the source.
type use struct{ service, eventType, at string }

// code is what the source has about events: the types of the catalogue, those that each service handles, and those that it makes
// to publish them.
type code struct {
	catalogue map[string]string // from the name of a Go type to the type of the event
	handles   []use
	publishes []use
}

// readCode parses the source: events.On and events.OnQueued register a handler of the type of its second parameter, and a literal of a payload
// outside tests is an event to publish.
func readCode(t *testing.T) code {
	t.Helper()
	files := token.NewFileSet()
	c := code{catalogue: map[string]string{}}
	for _, declaration := range parse(t, files, "internal/events/catalogue.go").Decls {
		method, ok := declaration.(*ast.FuncDecl)
		if !ok || method.Name.Name != "EventType" || method.Recv == nil {
			continue
		}
		receiver := method.Recv.List[0].Type.(*ast.Ident).Name
		text := method.Body.List[0].(*ast.ReturnStmt).Results[0].(*ast.BasicLit).Value
		eventType, err := strconv.Unquote(text)
		require.NoError(t, err)
		c.catalogue[receiver] = eventType
	}
	require.NotEmpty(t, c.catalogue)

	mains, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	for _, main := range mains {
		service := filepath.Dir(main)
		sources, err := filepath.Glob(service + "/*.go")
		require.NoError(t, err)
		ofSubpackages, err := filepath.Glob(service + "/*/*.go")
		require.NoError(t, err)
		sources = append(sources, ofSubpackages...)
		// Methods and functions by name, for handlers that are not literals.
		functions := map[string]*ast.FuncType{}
		var parsed []*ast.File
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			file := parse(t, files, source)
			parsed = append(parsed, file)
			for _, declaration := range file.Decls {
				if function, ok := declaration.(*ast.FuncDecl); ok {
					functions[function.Name.Name] = function.Type
				}
			}
		}
		for _, file := range parsed {
			ast.Inspect(file, func(node ast.Node) bool {
				at := func() string { return "services/" + files.Position(node.Pos()).String() }
				switch node := node.(type) {
				case *ast.CallExpr:
					if name := ofEvents(node.Fun); name != "On" && name != "OnQueued" {
						return true
					}
					require.Len(t, node.Args, 2, at())
					name := payloadOf(node.Args[1], functions)
					require.Contains(t, c.catalogue, name, "%s: a handler of no type of the catalogue", at())
					c.handles = append(c.handles, use{service, c.catalogue[name], at()})
				case *ast.CompositeLit:
					if eventType, is := c.catalogue[ofEvents(node.Type)]; is {
						c.publishes = append(c.publishes, use{service, eventType, at()})
					}
				}
				return true
			})
		}
	}
	// A service in TypeScript handles the types that its source names.
	packages, err := filepath.Glob("*/src/main.ts")
	require.NoError(t, err)
	quoted := regexp.MustCompile(`["'` + "`" + `]([a-z]+\.[a-z]+)["'` + "`" + `]`)
	for _, file := range packages {
		service := filepath.Dir(filepath.Dir(file))
		sources, err := filepath.Glob(service + "/src/*.ts")
		require.NoError(t, err)
		for _, source := range sources {
			text, err := os.ReadFile(source)
			require.NoError(t, err)
			for number, line := range strings.Split(string(text), "\n") {
				for _, match := range quoted.FindAllStringSubmatch(line, -1) {
					if slices.Contains(slices.Collect(maps.Values(c.catalogue)), match[1]) {
						c.handles = append(c.handles, use{service, match[1], fmt.Sprintf("services/%s:%d", source, number+1)})
					}
				}
			}
		}
	}
	return c
}

func parse(t *testing.T, files *token.FileSet, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	return file
}

// ofEvents is X of an expression events.X, or "".
func ofEvents(node ast.Expr) string {
	selector, ok := node.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if from, ok := selector.X.(*ast.Ident); !ok || from.Name != "events" {
		return ""
	}
	return selector.Sel.Name
}

// payloadOf is the Go type of a handler's payload: its second parameter.
func payloadOf(handler ast.Expr, functions map[string]*ast.FuncType) string {
	var function *ast.FuncType
	switch handler := handler.(type) {
	case *ast.FuncLit:
		function = handler.Type
	case *ast.SelectorExpr:
		function = functions[handler.Sel.Name]
	case *ast.Ident:
		function = functions[handler.Name]
	}
	if function == nil {
		return ""
	}
	var types []ast.Expr
	for _, field := range function.Params.List {
		for range max(1, len(field.Names)) {
			types = append(types, field.Type)
		}
	}
	if len(types) != 2 {
		return ""
	}
	return ofEvents(types[1])
}

// subscriptionLines are the topics of events that each service subscribes to, with their lines.
func subscriptionLines(t *testing.T) map[string]map[string]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", subscriptionsFile))
	require.NoError(t, err)
	all := map[string]map[string]int{}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var s struct {
			Spec   struct{ Topic yaml.Node }
			Scopes []string
		}
		err := decoder.Decode(&s)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		for _, service := range s.Scopes {
			if all[service] == nil {
				all[service] = map[string]int{}
			}
			all[service][s.Spec.Topic.Value] = s.Spec.Topic.Line
		}
	}
}

// The broker delivers only what subscriptions.yaml asks for: a handler without its topic there is never called, without an error.
func TestSubscriptions_AreTheTopicsOfWhatTheServicesHandle(t *testing.T) {
	c, subscribed := readCode(t), subscriptionLines(t)
	handled := map[string]map[string]bool{}
	for _, h := range c.handles {
		topic := events.TopicOf(h.eventType)
		if handled[h.service] == nil {
			handled[h.service] = map[string]bool{}
		}
		handled[h.service][topic] = true
		if subscribed[h.service][topic] == 0 {
			t.Errorf("%s: %s handles %s, and %s has no Subscription of %[2]s to %[5]s: it is never delivered",
				h.at, h.service, h.eventType, subscriptionsFile, topic)
		}
	}
	for service, topics := range subscribed {
		for topic, line := range topics {
			if strings.HasPrefix(topic, "events.") && topic != events.OldDeadLetterTopic && !handled[service][topic] {
				t.Errorf("%s:%d: %s subscribes to %s, and handles no type of it", subscriptionsFile, line, service, topic)
			}
		}
	}
	for service := range handled {
		if !slices.Contains(events.Subscribers, service) {
			t.Errorf("events.Subscribers lacks %s, which handles events: its dead letters would be kept by nobody", service)
		}
	}
}

// unhandledTypes are in the catalogue for others: no service of this repository acts on them.
var unhandledTypes = []string{"user.created", "payment.failed"}

// Each type of the catalogue has one publisher, and the table in README.md lists who publishes and who handles it.
func TestCatalogue_EachTypeIsPublishedByOneServiceAndHandled(t *testing.T) {
	c := readCode(t)
	publishers, handlers := map[string][]string{}, map[string][]string{}
	for _, p := range c.publishes {
		if !slices.Contains(publishers[p.eventType], p.service) {
			publishers[p.eventType] = append(publishers[p.eventType], p.service)
		}
	}
	for _, h := range c.handles {
		handlers[h.eventType] = append(handlers[h.eventType], h.service)
	}
	table := readTable(t)
	for name, eventType := range c.catalogue {
		if len(publishers[eventType]) != 1 {
			t.Errorf("services/internal/events/catalogue.go: %s (%s) is published by %v, and must be by one service", name, eventType, publishers[eventType])
		}
		if unhandled := len(handlers[eventType]) == 0; unhandled != slices.Contains(unhandledTypes, eventType) {
			t.Errorf("services/internal/events/catalogue.go: %s (%s) is handled by %v; unhandledTypes differs", name, eventType, handlers[eventType])
		}
	}
	for service, row := range table {
		for _, eventType := range c.catalogue {
			if is := slices.Contains(publishers[eventType], service); is != matches(row.publishes, eventType) {
				t.Errorf("services/README.md: %s publishes %s: %t in the code", service, eventType, is)
			}
			// order.* may stand for some of the types.
			if is := slices.Contains(handlers[eventType], service); is && !matches(row.handles, eventType) {
				t.Errorf("services/README.md: %s handles %s, which the table lacks", service, eventType)
			}
		}
		for _, pattern := range row.handles {
			handled := slices.ContainsFunc(c.handles, func(h use) bool { return h.service == service && matches([]string{pattern}, h.eventType) })
			if !handled {
				t.Errorf("services/README.md: %s does not handle %s", service, pattern)
			}
		}
	}
}

type tableRow struct{ publishes, handles []string }

// readTable reads the first table of README.md: folder, decides, keeps, publishes, handles.
func readTable(t *testing.T) map[string]tableRow {
	t.Helper()
	rows := map[string]tableRow{}
	for line := range strings.Lines(sources.Page(t, "README.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || !strings.Contains(cells[1], "`") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		rows[strings.Trim(cells[1], " `")] = tableRow{quoted(cells[4]), quoted(cells[5])}
	}
	require.NotEmpty(t, rows)
	return rows
}

// quoted are the types of events in backquotes.
func quoted(cell string) (types []string) {
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 && strings.Contains(part, ".") {
			types = append(types, part)
		}
	}
	return types
}

func matches(patterns []string, eventType string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, all := strings.CutSuffix(pattern, "*")
		return pattern == eventType || all && strings.HasPrefix(eventType, prefix)
	})
}
