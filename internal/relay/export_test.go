package relay

// Remembered is how many bytes b keeps for another time.
func (b *Body) Remembered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}
