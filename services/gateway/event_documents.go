package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"gopkg.in/yaml.v3"

	"boxoffice/services/contracts"
)

// The gateway serves what describes events: the JSON Schemas at which dataschema points, the AsyncAPI document, and a page that shows both.
// The page is made once, at the start, and has no script.

// schemaType is the media type of a JSON Schema.
const schemaType = "application/schema+json"

// addEvents adds the documents about events. Their page needs no more than the styles of this origin.
func (d *documents) addEvents() {
	for _, name := range contracts.Schemas() {
		schema, _ := contracts.Schema(name)
		d.byPath[name.Path()] = document(schemaType, schema)
	}
	d.byPath["/api/asyncapi.json"] = document(fiber.MIMEApplicationJSON, contracts.AsyncAPI())
	page, err := eventsPage()
	if err != nil {
		panic(err) // all that it is made of is embedded
	}
	d.byPath["/api/docs/events"] = pageDocument(page)
	d.byPath["/api/docs/events.css"] = document(styleType, embedded("events.css"))
}

// page is what docs/events.html shows.
type page struct {
	Title, Version string
	Intro          []block
	Topics         []topicRow
	Sections       []section
	Envelope       eventView
	Events         []eventView
}

type section struct {
	ID, Title string
	Blocks    []block
}

// block is a paragraph, a list or a piece of code of a description in Markdown. Descriptions use no more of it.
type block struct {
	Spans   []span
	Entries [][]span
	Code    string
}

type span struct {
	Text             string
	IsCode, IsStrong bool
}

type topicRow struct {
	Address, Publish, Subscribe, Description string
	Events                                   []eventView
}

type eventView struct {
	ID, Heading, Type, Path string
	Number                  int
	Description             []block
	Members                 []memberRow
	Example                 string
}

type memberRow struct {
	Name, Kind  string
	Required    bool
	Description []block
}

// asyncAPI has the parts of the AsyncAPI document that the page shows.
type asyncAPI struct {
	Info     struct{ Title, Version, Description string }
	Channels yaml.Node
	// Operations have an action, send or receive.
	Operations map[string]struct {
		Action  string
		Channel struct {
			Ref string `yaml:"$ref"`
		}
		Services []string `yaml:"x-services"`
	}
}

type channel struct {
	Address, Description string
	Messages             yaml.Node
}

func eventsPage() ([]byte, error) {
	var document asyncAPI
	if err := yaml.Unmarshal(contracts.AsyncAPIYAML(), &document); err != nil {
		return nil, fmt.Errorf("read asyncapi.yaml: %w", err)
	}
	p := page{Title: document.Info.Title, Version: document.Info.Version}
	p.Intro, p.Sections = sectionsOf(document.Info.Description)
	for _, name := range contracts.Schemas() {
		view, err := viewOf(name)
		if err != nil {
			return nil, err
		}
		if name.Type == contracts.EnvelopeSchema {
			p.Envelope = view
			continue
		}
		p.Events = append(p.Events, view)
	}
	err := eachMember(document.Channels, func(name string, value yaml.Node) error {
		var c channel
		if err := value.Decode(&c); err != nil {
			return fmt.Errorf("read channel %s: %w", name, err)
		}
		row := topicRow{Address: c.Address, Description: c.Description}
		for _, operation := range slices.Sorted(maps.Keys(document.Operations)) {
			o := document.Operations[operation]
			switch {
			case o.Channel.Ref != "#/channels/"+name:
			case o.Action == "send":
				row.Publish = strings.Join(o.Services, ", ")
			default:
				row.Subscribe = strings.Join(o.Services, ", ")
			}
		}
		p.Topics = append(p.Topics, row)
		return eachMember(c.Messages, func(eventType string, _ yaml.Node) error {
			topic := &p.Topics[len(p.Topics)-1]
			last := eventView{Type: eventType}
			for _, event := range p.Events {
				if event.Type == eventType {
					last = event // the highest number
				}
			}
			topic.Events = append(topic.Events, last)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	parsed, err := template.ParseFS(pageFiles, "docs/events.html")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, p)
	return out.Bytes(), err
}

// eachMember visits the members of a mapping in the order in which they are written.
func eachMember(mapping yaml.Node, visit func(name string, value yaml.Node) error) error {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if err := visit(mapping.Content[i].Value, *mapping.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// schema has the parts of a JSON Schema that the page shows.
type schema struct {
	Description string
	Type        string
	Format      string
	Encoding    string `yaml:"contentEncoding"`
	Required    []string
	Properties  yaml.Node
	Items       *schema
	Minimum     *int
	Enum        []string
}

func viewOf(name contracts.SchemaID) (eventView, error) {
	text, _ := contracts.Schema(name)
	var s schema
	if err := yaml.Unmarshal(text, &s); err != nil { // JSON is YAML, and keeps its order here
		return eventView{}, fmt.Errorf("read %s: %w", name.File(), err)
	}
	var example struct{ Examples []json.RawMessage }
	if err := json.Unmarshal(text, &example); err != nil || len(example.Examples) == 0 {
		return eventView{}, fmt.Errorf("read the example of %s: %w", name.File(), err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, example.Examples[0], "", "  "); err != nil {
		return eventView{}, err
	}
	view := eventView{
		ID: "event-" + name.Type + "." + strconv.Itoa(name.Number), Heading: name.Type, Type: name.Type, Number: name.Number,
		Path: name.Path(), Description: blocksOf(s.Description), Example: indented.String(),
	}
	if name.Type == contracts.EnvelopeSchema {
		view.Heading = "Members of the envelope"
	} else if name.Number > 1 {
		view.Heading += ", number " + strconv.Itoa(name.Number)
	}
	var err error
	view.Members, err = membersOf("", s)
	return view, err
}

// membersOf are the members of an object, and of the objects in it.
func membersOf(prefix string, s schema) (rows []memberRow, err error) {
	err = eachMember(s.Properties, func(name string, value yaml.Node) error {
		var member schema
		if err := value.Decode(&member); err != nil {
			return fmt.Errorf("read the member %s: %w", name, err)
		}
		rows = append(rows, memberRow{
			Name: prefix + name, Kind: kindOf(member), Required: slices.Contains(s.Required, name), Description: blocksOf(member.Description),
		})
		inner, at := member, prefix+name+"."
		if member.Items != nil {
			inner, at = *member.Items, prefix+name+"[]."
		}
		of, err := membersOf(at, inner)
		rows = append(rows, of...)
		return err
	})
	return rows, err
}

// kindOf is a member's type for people.
func kindOf(s schema) string {
	switch {
	case s.Encoding != "":
		return s.Encoding
	case s.Format == "date-time":
		return "time"
	case s.Format != "":
		return s.Format
	case s.Items != nil:
		return "list of " + s.Items.Type + "s"
	case s.Type == "":
		return "any JSON"
	case s.Minimum != nil:
		return s.Type + ", at least " + strconv.Itoa(*s.Minimum)
	}
	return s.Type
}

var notInID = regexp.MustCompile(`[^a-z]+`)

// sectionsOf splits a description in Markdown at its headings.
func sectionsOf(text string) (intro []block, sections []section) {
	parts := strings.Split("\n"+text, "\n# ")
	for _, part := range parts[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections = append(sections, section{notInID.ReplaceAllString(strings.ToLower(title), "-"), title, blocksOf(body)})
	}
	return blocksOf(parts[0]), sections
}

// blocksOf reads paragraphs, lists and fenced code.
func blocksOf(text string) (blocks []block) {
	var paragraph []string
	var entries [][]string
	end := func() {
		if len(paragraph) > 0 {
			blocks = append(blocks, block{Spans: spansOf(strings.Join(paragraph, " "))})
		}
		if len(entries) > 0 {
			list := block{}
			for _, entry := range entries {
				list.Entries = append(list.Entries, spansOf(strings.Join(entry, " ")))
			}
			blocks = append(blocks, list)
		}
		paragraph, entries = nil, nil
	}
	var code []string
	inCode := false
	for line := range strings.SplitSeq(text, "\n") {
		entry, isEntry := strings.CutPrefix(line, "- ")
		switch {
		case strings.HasPrefix(line, "```"):
			if inCode {
				blocks = append(blocks, block{Code: strings.Join(code, "\n")})
			} else {
				end()
			}
			inCode, code = !inCode, nil
		case inCode:
			code = append(code, line)
		case strings.TrimSpace(line) == "":
			end()
		case isEntry:
			if len(paragraph) > 0 {
				end()
			}
			entries = append(entries, []string{entry})
		case len(entries) > 0:
			entries[len(entries)-1] = append(entries[len(entries)-1], strings.TrimSpace(line))
		default:
			paragraph = append(paragraph, strings.TrimSpace(line))
		}
	}
	end()
	return blocks
}

// spansOf reads `code` and **strong** text, in which there may be code.
func spansOf(text string) (spans []span) {
	isStrong := false
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			spans = append(spans, span{Text: part, IsCode: true})
			continue
		}
		for j, piece := range strings.Split(part, "**") {
			if j > 0 {
				isStrong = !isStrong
			}
			if piece != "" {
				spans = append(spans, span{Text: piece, IsStrong: isStrong})
			}
		}
	}
	return spans
}
