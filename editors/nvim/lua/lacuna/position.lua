--- Converts between the column units of the protocol and bytes, the only unit used elsewhere in the plugin.
--- Neovim 0.10 and 0.11 spell the built-in conversions differently.
local M = {}

local modern = vim.fn.has('nvim-0.11') == 1

--- The byte column of an LSP `character`; beyond the end of the line it is the end of the line.
---@param line string
---@param character integer in units of `encoding`
---@param encoding 'utf-8'|'utf-16'|'utf-32'
---@return integer bytes
function M.to_byte(line, character, encoding)
  if encoding == 'utf-8' then
    return math.min(character, #line)
  end
  if modern then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local utf32, utf16 = vim.str_utfindex(line)
  if encoding == 'utf-32' then
    return vim.str_byteindex(line, math.min(character, utf32))
  end
  return vim.str_byteindex(line, math.min(character, utf16), true)
end

return M
