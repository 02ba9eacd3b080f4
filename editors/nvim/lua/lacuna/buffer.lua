--- Which buffers are served, and which workspace folder each belongs to.
local config = require('lacuna.config')

local M = {}

---@param bufnr integer
---@return integer bytes
local function size(bufnr)
  return math.max(0, vim.api.nvim_buf_get_offset(bufnr, vim.api.nvim_buf_line_count(bufnr)))
end

--- Why a buffer is not served; nil when it is.
---@param bufnr integer
---@return string?
function M.refusal(bufnr)
  if not vim.api.nvim_buf_is_valid(bufnr) or not vim.api.nvim_buf_is_loaded(bufnr) then
    return 'the buffer is not loaded'
  end
  local options = vim.bo[bufnr]
  local filetypes = config.current.filetypes
  local wanted = filetypes[options.filetype]
  if wanted == nil then
    wanted = filetypes['*']
  end
  if options.buftype ~= '' then
    return ("it is not a file: 'buftype' is %s"):format(options.buftype)
  elseif vim.api.nvim_buf_get_name(bufnr) == '' then
    return 'it has no file name yet'
  elseif vim.b[bufnr].lacuna_enabled == false then
    return 'it was turned off for this buffer'
  elseif not options.modifiable or options.readonly then
    return 'it is read-only'
  elseif not wanted then
    return ("the filetype '%s' is turned off in the options"):format(options.filetype)
  elseif size(bufnr) > config.current.max_file_bytes then
    return ('it is larger than max_file_bytes (%d)'):format(config.current.max_file_bytes)
  end
  return nil
end

--- The workspace folder of a buffer: an earlier marker in the list wins over a nearer one, so that a package inside
--- a repository is seen together with the rest of the repository.
---@param bufnr integer
---@return string? directory
function M.root(bufnr)
  for _, marker in ipairs(config.current.root_markers) do
    local directory = vim.fs.root(bufnr, marker)
    if directory then
      return directory
    end
  end
  return nil
end

return M
