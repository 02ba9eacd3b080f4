--- One suggestion and what of it is still to come. Pure: text in, text out; both backends share it.
--- All columns are bytes, all rows count from 0.
local M = {}

---@class lacuna.Suggestion
---@field text string lines joined by \n
---@field row integer where the replaced range starts
---@field start_column integer where the replaced range starts
---@field replaced_after integer bytes after the cursor that accepting replaces
---@field line_after string what followed the cursor on its line when the suggestion was asked for
---@field command? table to run after it is accepted

---@class lacuna.Place
---@field row integer
---@field column integer
---@field line string the text of `row`

--- Makes a suggestion out of an item whose range is already in bytes.
---@param text string
---@param range? { row: integer, start_column: integer, end_column: integer }
---@param place lacuna.Place the cursor when the item was asked for
---@return lacuna.Suggestion?
function M.new(text, range, place)
  text = text:gsub('\r\n', '\n')
  range = range or { row = place.row, start_column = place.column, end_column = place.column }
  if text == '' or range.row ~= place.row or range.start_column > place.column then
    return nil
  end
  return {
    text = text,
    row = range.row,
    start_column = range.start_column,
    replaced_after = math.max(0, range.end_column - place.column),
    line_after = place.line:sub(place.column + 1),
  }
end

--- What is left of a suggestion for a cursor at the end of `typed`; nil when the user has gone another way.
---@param suggestion lacuna.Suggestion
---@param typed string the buffer's text from the start of the suggestion to the cursor
---@param line_after string what follows the cursor on its line
---@return string?
function M.rest(suggestion, typed, line_after)
  if line_after ~= suggestion.line_after or #typed >= #suggestion.text then
    return nil
  end
  if suggestion.text:sub(1, #typed) ~= typed then
    return nil
  end
  return suggestion.text:sub(#typed + 1)
end

--- The same, read from the buffer and the cursor of the current window.
---@param suggestion lacuna.Suggestion
---@param bufnr integer
---@return string? rest, integer row, integer column
function M.rest_at_cursor(suggestion, bufnr)
  local cursor = vim.api.nvim_win_get_cursor(0)
  local row, column = cursor[1] - 1, cursor[2]
  local rows = row - suggestion.row
  -- A suggestion may be typed across line ends, never past its own last line.
  local _, line_ends = suggestion.text:gsub('\n', '')
  if rows < 0 or (rows == 0 and column < suggestion.start_column) or rows > line_ends then
    return nil, row, column
  end
  local first = vim.api.nvim_buf_get_lines(bufnr, suggestion.row, suggestion.row + 1, false)[1]
  if not first or #first < suggestion.start_column then
    return nil, row, column
  end
  local typed = vim.api.nvim_buf_get_text(bufnr, suggestion.row, suggestion.start_column, row, column, {})
  local line = vim.api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1] or ''
  return M.rest(suggestion, table.concat(typed, '\n'), line:sub(column + 1)), row, column
end

---@alias lacuna.Amount 'all'|'word'|'line'

--- The part of `rest` that accepting `amount` inserts. A word is what 'iskeyword' of the current buffer says, or a
--- run of other characters, with the blanks before it; a line reaches to the next line end.
---@param rest string
---@param amount lacuna.Amount
---@return string
function M.chunk(rest, amount)
  if amount == 'word' then
    local word = vim.fn.matchstr(rest, [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)]])
    return word ~= '' and word or rest
  elseif amount == 'line' then
    return rest:match('^\n?[^\n]*')
  end
  return rest
end

return M
