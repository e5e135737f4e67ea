package oidcauthtest

import (
	"html"
	"iter"
	"regexp"
	"strings"
)

// A page is what of a HTML document matters to a browser without scripts.
type page struct {
	forms     []form
	submits   bool   // the first form submits itself
	refresh   string // where it goes on to; "": to itself
	refreshes bool
}

// A form has what its controls are filled with, in their order.
type form struct {
	action, method string
	fields         []field
	buttons        []button
	unable         string // what it has that the browser cannot send
}

type field struct{ name, value string }

type button struct {
	field
	text           string
	action, method string // instead of the form's
}

// selfSubmitting is the script of the OAuth 2.0 Form Post Response Mode's example.
var selfSubmitting = regexp.MustCompile(`^\s*(?:javascript:)?\s*(?:window\.)?document\.forms\[0\]\.submit\(\)\s*;?\s*$`)

// readPage reads a document. What it does not understand it skips, as browsers do.
func readPage(document string) page {
	var r pageReader
	for n := range nodes(document) {
		switch {
		case n.tag == "":
			r.label.WriteString(n.text)
		case n.closing:
			r.end(n.tag)
		default:
			r.start(n)
		}
	}
	r.endForm()
	return r.page
}

// A pageReader is in the middle of a document.
type pageReader struct {
	page    page
	form    *form   // nil: outside of forms
	pressed *button // nil: outside of buttons
	label   strings.Builder
}

func (r *pageReader) start(n node) {
	switch n.tag {
	case "meta":
		if link, ok := parseRefresh(n.attrs["content"]); ok && !r.page.refreshes &&
			strings.EqualFold(n.attrs["http-equiv"], "refresh") {
			r.page.refresh, r.page.refreshes = link, true
		}
	case "body":
		r.page.submits = r.page.submits || selfSubmitting.MatchString(n.attrs["onload"])
	case "script":
		r.page.submits = r.page.submits || selfSubmitting.MatchString(n.text)
	case "form":
		if r.form == nil { // HTML has no forms in forms
			r.form = &form{action: strings.TrimSpace(n.attrs["action"]), method: n.attrs["method"]}
			if kind := n.attrs["enctype"]; kind != "" && !strings.EqualFold(kind, formType) {
				r.form.unable = "enctype=" + kind
			}
		}
	default:
		if _, disabled := n.attrs["disabled"]; r.form != nil && !disabled {
			r.control(n)
		}
	}
}

// control adds a control to the form.
func (r *pageReader) control(n node) {
	f, own := r.form, field{n.attrs["name"], n.attrs["value"]}
	_, checked := n.attrs["checked"]
	switch kind := strings.ToLower(n.attrs["type"]); n.tag + " " + kind {
	case "button reset", "button button", "input reset", "input button", "input image":
	case "input submit":
		f.buttons = append(f.buttons, button{own, words(own.value), n.attrs["formaction"], n.attrs["formmethod"]})
	case "input file":
		f.unable = "files"
	case "input checkbox", "input radio":
		if _, valued := n.attrs["value"]; !valued {
			own.value = "on"
		}
		if checked && own.name != "" {
			f.fields = append(f.fields, own)
		}
	default:
		switch {
		case n.tag == "select":
			f.unable = "a select element"
		case n.tag == "button":
			r.label.Reset()
			r.pressed = &button{field: own, action: n.attrs["formaction"], method: n.attrs["formmethod"]}
		case n.tag == "textarea" && own.name != "":
			f.fields = append(f.fields, field{own.name, html.UnescapeString(n.text)})
		case n.tag == "input" && own.name != "":
			f.fields = append(f.fields, own)
		}
	}
}

func (r *pageReader) end(tag string) {
	switch {
	case tag == "form":
		r.endForm()
	case tag == "button" && r.pressed != nil && r.form != nil:
		r.pressed.text = words(r.label.String())
		r.form.buttons = append(r.form.buttons, *r.pressed)
		r.pressed = nil
	}
}

func (r *pageReader) endForm() {
	if r.form != nil {
		r.page.forms = append(r.page.forms, *r.form)
	}
	r.form, r.pressed = nil, nil
}

// words is text as it is shown.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// A node is a piece of a document: text, or a tag.
type node struct {
	tag     string // lower case; "": text
	closing bool
	attrs   map[string]string
	text    string // unescaped; of a start tag: all that the element holds, as it is written, if that is no markup
}

// nodes are the pieces of a document, without comments.
func nodes(document string) iter.Seq[node] {
	return func(yield func(node) bool) {
		for document != "" {
			n, rest, ok := nextNode(document)
			if ok && !yield(n) {
				return
			}
			document = rest
		}
	}
}

// nextNode reads one piece; ok is false for what is none. rest is shorter than document.
func nextNode(document string) (n node, rest string, ok bool) {
	at := strings.IndexByte(document, '<')
	switch {
	case at != 0:
		if at < 0 {
			at = len(document)
		}
		return node{text: html.UnescapeString(document[:at])}, document[at:], true
	case strings.HasPrefix(document, "<!--"):
		return node{}, past(document[2:], "-->"), false
	case strings.HasPrefix(document, "<!"), strings.HasPrefix(document, "<?"):
		return node{}, past(document, ">"), false
	}
	name, closing := document[1:], false
	if strings.HasPrefix(name, "/") {
		name, closing = name[1:], true
	}
	end := strings.IndexFunc(name, func(c rune) bool { return isSpace(c) || c == '/' || c == '>' })
	if name == "" || !isLetter(name[0]) || end < 0 {
		return node{text: "<"}, document[1:], true
	}
	n = node{tag: strings.ToLower(name[:end]), closing: closing}
	n.attrs, rest = attributes(name[end:])
	if !closing {
		n.text, rest = rawText(n.tag, rest)
	}
	return n, rest, true
}

// rawText cuts off what an element holds that is no markup. What a browser with scripts does not show, or only on
// demand, counts as that.
func rawText(tag, document string) (text, rest string) {
	switch tag {
	case "script", "style", "title", "textarea", "noscript", "template", "iframe", "noembed", "noframes", "xmp":
	default:
		return "", document
	}
	for at := 0; at < len(document); at++ {
		if end := at + len("</") + len(tag); end < len(document) && document[at] == '<' && document[at+1] == '/' &&
			strings.EqualFold(document[at+2:end], tag) && strings.IndexByte(" \t\n\f\r/>", document[end]) >= 0 {
			return document[:at], document[at:]
		}
	}
	return document, ""
}

// attributes reads those of a tag, of which the first of a name counts.
func attributes(tag string) (attrs map[string]string, rest string) {
	attrs = map[string]string{}
	for {
		tag = strings.TrimLeftFunc(tag, func(c rune) bool { return isSpace(c) || c == '/' })
		if tag == "" || tag[0] == '>' {
			return attrs, strings.TrimPrefix(tag, ">")
		}
		end := 1 + index(tag[1:], func(c rune) bool { return isSpace(c) || strings.ContainsRune("/>=", c) })
		name, value := strings.ToLower(tag[:end]), ""
		tag = tag[end:]
		if valued, ok := strings.CutPrefix(strings.TrimLeftFunc(tag, isSpace), "="); ok {
			value, tag = attributeValue(strings.TrimLeftFunc(valued, isSpace))
		}
		if _, twice := attrs[name]; !twice {
			attrs[name] = value
		}
	}
}

func attributeValue(tag string) (value, rest string) {
	if tag != "" && (tag[0] == '"' || tag[0] == '\'') {
		value, rest, _ = strings.Cut(tag[1:], tag[:1])
	} else {
		end := index(tag, func(c rune) bool { return isSpace(c) || c == '>' })
		value, rest = tag[:end], tag[end:]
	}
	return reference.ReplaceAllStringFunc(value, html.UnescapeString), rest
}

// reference is a character reference with its semicolon. Without it a link's "&copy=" is a parameter.
var reference = regexp.MustCompile(`&#?[0-9A-Za-z]+;`)

// parseRefresh reads a Refresh field, or the content of such a meta element (HTML standard, shared declarative refresh
// steps). ok is false if there is none, or if it waits. link is empty for the page itself.
func parseRefresh(content string) (link string, ok bool) {
	rest := strings.TrimLeftFunc(content, isSpace)
	seconds := rest[:index(rest, func(c rune) bool { return c < '0' || c > '9' })]
	rest = rest[len(seconds):]
	if seconds == "" && !strings.HasPrefix(rest, ".") || strings.Trim(seconds, "0") != "" {
		return "", false
	}
	rest = strings.TrimLeft(rest, "0123456789.")
	trimmed := strings.TrimLeftFunc(rest, isSpace)
	separated := strings.HasPrefix(trimmed, ";") || strings.HasPrefix(trimmed, ",")
	if rest != "" && rest == trimmed && !separated {
		return "", false // "0x"
	}
	if separated {
		trimmed = strings.TrimLeftFunc(trimmed[1:], isSpace)
	}
	link = trimmed
	if len(link) >= 3 && strings.EqualFold(link[:3], "url") {
		value, assigned := strings.CutPrefix(strings.TrimLeftFunc(link[3:], isSpace), "=")
		if !assigned {
			return link, true // a relative link that begins so
		}
		link = strings.TrimLeftFunc(value, isSpace)
	}
	if link != "" && (link[0] == '"' || link[0] == '\'') {
		link, _, _ = strings.Cut(link[1:], link[:1])
	}
	return link, true
}

// past is what comes after end in s, or nothing.
func past(s, end string) string {
	_, rest, _ := strings.Cut(s, end)
	return rest
}

// index is where f first holds in s, or the length of s.
func index(s string, f func(rune) bool) int {
	if i := strings.IndexFunc(s, f); i >= 0 {
		return i
	}
	return len(s)
}

func isSpace(c rune) bool { return strings.ContainsRune(" \t\n\f\r", c) }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
