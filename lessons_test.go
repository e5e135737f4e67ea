package oidcauth_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	citation = regexp.MustCompile(`(?i)\blessons? (\d+(?:(?:, | and )\d+)*)`)
	number   = regexp.MustCompile(`\d+`)
)

// What went wrong elsewhere has a test here that says so. Lesson 45 is about curl, which is used nowhere.
func TestEveryLessonIsCitedByATest(t *testing.T) {
	t.Parallel()
	cited := map[int]bool{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".") && name != "."):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go") || name == "lessons_test.go":
			return nil
		}
		for _, list := range citation.FindAllStringSubmatch(readText(t, name), -1) {
			for _, n := range number.FindAllString(list[1], -1) {
				lesson, _ := strconv.Atoi(n)
				cited[lesson] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for lesson := 1; lesson <= 46; lesson++ {
		if !cited[lesson] && lesson != 45 {
			t.Errorf("lesson %d is cited by no test", lesson)
		}
	}
}
